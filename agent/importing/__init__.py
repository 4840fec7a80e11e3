"""Runs of other programs, read into records of ours."""
