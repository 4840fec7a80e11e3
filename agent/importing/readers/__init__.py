"""Readers of other systems' runs, one format a file; `srft.agent.importing.importers` chooses among them."""
