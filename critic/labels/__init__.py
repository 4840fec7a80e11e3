"""Verdicts on steps, and the files that hold them."""
