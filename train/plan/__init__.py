"""What a training needs, before it begins."""
