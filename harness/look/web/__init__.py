"""The viewer: a run in the browser, read where it lies.

lines.py     a JSON-lines file as short records with byte offsets, kept up to date as it grows
places.py    the rounds and evaluations of a run, each with its trajectories, labels and grades
table.py     filter, sort and pages; what an arm masks of each run
timeline.py  one trajectory, step by step; folding.py: long texts and diffs; evidence.py: reference fix, tests
tokens.py    an arm's token rows
contrast.py  two trajectories, two arms, two places side by side
people.py    a person's labels, and how far critics agree with them
pages.py     templates and links; app.py: the server; guard.py: who may ask, and what a page may do
export.py    the same pages as files
"""
