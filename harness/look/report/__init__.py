"""The report of a run: report.html, report.md and report.json, made from the run's files alone.

    from srft.harness.look.report import write_report
    write_report(Path("runs/demo"))                       # runs/demo/report.html

`read_report` reads the files into one record, `Report` (records.py), which is what report.json holds; the pages and the
figures are drawn from that record and from nothing else.
"""

from srft.harness.look.report.facts import read_report
from srft.harness.look.report.records import Report
from srft.harness.look.report.write import write_report

__all__ = ["Report", "read_report", "write_report"]
