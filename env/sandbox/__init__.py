"""The sandbox: its contract, and the persistent bash that every backend shares."""
