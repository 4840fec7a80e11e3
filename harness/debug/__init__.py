"""One task, step by step, on a live container: `srft debug`.

session.py is the engine, without a terminal: the conversation, a snapshot before each step, forks, tests, critics,
saving. Over it stand app.py (a terminal app, textual) and script.py (`--script FILE`).
"""
