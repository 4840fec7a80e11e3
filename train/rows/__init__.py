"""From runs and labels to token rows."""
