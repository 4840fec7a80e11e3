"""A sandbox without an engine: bubblewrap over root file systems."""
