"""A scripted engineer who knows the bug and errs at given rates."""
