"""The environment: tasks, sandboxes, the Gymnasium environment, the official grader.

Importing it registers "srft/SWEBench-v0" with Gymnasium. Nothing here imports torch, and nothing here knows what a chat
message is.
"""

import gymnasium

gymnasium.register(id="srft/SWEBench-v0", entry_point="srft.env.swe_env:SweEnv")
