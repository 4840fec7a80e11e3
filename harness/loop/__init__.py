"""Rounds: their order, keys, plan and budget."""
