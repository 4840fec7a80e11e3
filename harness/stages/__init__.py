"""The stages, one a file: collect, critique, rows, train, evaluate, export and the rest."""
