"""The report of a run: report.html, report.md and report.json, made from the run's files alone.

    from srft.harness.look.report import write_report
    write_report(Path("runs/demo"))                       # runs/demo/report.html

report.json is the record that `srft.harness.facts` reads; the pages are drawn from it and from nothing else.
"""

from srft.harness.look.report.write import write_report

__all__ = ["write_report"]
