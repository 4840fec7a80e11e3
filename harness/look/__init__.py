"""Looking at runs: in the terminal, as a report, in the browser."""
