"""A language model as the critic."""
