"""Readers of other systems' runs, one format a file; `srft.agent.importers` chooses among them."""
