"""The stages and the command line: collect, evaluate, and what keeps their runs."""
