"""The contract as checks that any sandbox can be put through."""
