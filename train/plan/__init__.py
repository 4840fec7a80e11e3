"""Estimates what a training needs, before it begins."""
