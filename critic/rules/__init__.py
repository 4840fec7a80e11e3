"""Critics without a model."""
