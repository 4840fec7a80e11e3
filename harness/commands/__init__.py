"""The commands of the program, a file each or two; `options.py` is what they share. `cli.py` puts them together."""
