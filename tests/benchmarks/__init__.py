"""srft side by side with what others use for the same: `make bench`, or `.venv/bin/python tests/benchmarks/run.py`."""
