"""Configuration files and --set."""
