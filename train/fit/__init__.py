"""From token rows to a model."""
