"""What a run came to: every number that anything shows is computed here, once, on top of `srft.harness.run`.

    from srft.harness.facts import read_report
    read_report(Path("runs/demo")).headline.trained.resolved

report.py     a run's files read into one `Report` (records.py), which is what report.json holds
episodes.py   what the episodes of one folder came to: outcomes, rate and interval, steps, tokens, cost
critics.py    what critics and people said, and how well critics agree with true labels
compare.py    two models, or two arms with their seeds, task by task

report.json, the pages, `srft compare`, `calibrate` and `runs` render these records and compute nothing of their own.
"""

from srft.harness.facts.records import Report
from srft.harness.facts.report import read_report

__all__ = ["Report", "read_report"]
