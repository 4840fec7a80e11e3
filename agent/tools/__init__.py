"""Tools beyond bash: editing files in the sandbox."""
