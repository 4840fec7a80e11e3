"""The environment: tasks, sandboxes, the Gymnasium environment, the official grader.

Importing it registers "srft/SWEBench-v0" with Gymnasium. Nothing here imports torch, and nothing here knows what a chat
message is.
"""

import gymnasium
from gymnasium.envs.registration import WrapperSpec

# Around the TimeLimit of `max_episode_steps`, so that `info` has the patch at that end too.
_PATCH_AT_TIME_LIMIT = WrapperSpec("PatchAtTimeLimit", "srft.env.swe_env:PatchAtTimeLimit", kwargs={})

gymnasium.register(
    id="srft/SWEBench-v0",
    entry_point="srft.env.swe_env:SweEnv",
    nondeterministic=True,
    additional_wrappers=(_PATCH_AT_TIME_LIMIT,),
)
