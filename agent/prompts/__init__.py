"""Prompts: a YAML file each, and what renders them."""
