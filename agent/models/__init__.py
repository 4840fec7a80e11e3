"""Models: a server, a script, a person."""
