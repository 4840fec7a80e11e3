"""Masked data in the forms that other trainers read."""
