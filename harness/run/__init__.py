"""Run directories: what is in them, read and written."""
