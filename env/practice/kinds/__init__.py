"""The kinds of bugs, by theme. Each is a function from a node to the edits that make such a bug of it."""
