"""Rows of datasets that are no swebench-5 rows, turned into such rows; `schema.py` is the way in."""
