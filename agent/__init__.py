"""The agent: a model that is asked, an action that is read from its reply, an observation that goes back.

`loop.run_episode` is the whole of it; `records.py` holds what an episode leaves behind.
"""
