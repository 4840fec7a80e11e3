"""The report of a run: report.html, report.md and report.json, made from the run's files alone (write.py).

report.json is the record that `srft.harness.facts` reads; opening.py and sections/ say it in words and tables, for the
page, which is the viewer's overview, and for report.md alike.
"""
