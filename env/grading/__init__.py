"""The official grader, run in a fresh container."""
