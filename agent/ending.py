"""The end of an episode: every exception becomes an `Ending` here, so that one failure never ends the batch.

ending_of(episode.play)          # Ending(reason='infra_error', detail='SandboxDied: ...', failure='world')
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NamedTuple

from srft.agent.models.contract import ContextOverflow, well_formed
from srft.agent.records import Failure, StopReason, Trajectory
from srft.env.errors import InfrastructureError, InputError, ModelError, SrftError

_MODEL_FAILED = f"{ModelError.__name__}: "


class Ending(NamedTuple):
    """Why something ended."""

    reason: StopReason | None
    """`None`: it did what it was to do, and nothing ended."""
    detail: str | None = None
    """What there is to say about it."""
    failure: Failure | None = None
    """Whose failure it was, of an `infra_error`."""


def ending_of(work: Callable[[], Ending]) -> Ending:
    """Do the work, with every exception as an ending."""
    try:
        return work()
    except ContextOverflow as error:
        return Ending("context_limit", str(error))
    except ModelError as error:
        return Ending("infra_error", well_formed(f"{_MODEL_FAILED}{error}"), "world")
    except SrftError as error:
        failure: Failure = "bug"
        if isinstance(error, InfrastructureError | InputError):
            failure = "world" if isinstance(error, InfrastructureError) else "input"
        return Ending("infra_error", well_formed(f"{type(error).__name__}: {error}"), failure)
    except Exception:  # noqa: BLE001 - our own bug costs this episode, never the batch
        return Ending("infra_error", well_formed(traceback.format_exc()), "bug")


def worth_retrying(trajectory: Trajectory) -> bool:
    """Whether to begin the episode anew at once: its infrastructure failed.

    A wrong script or a bug of ours would end it again. So would a model's server that could not be asked in minutes of
    trying.
    """
    by_model = (trajectory.detail or "").startswith(_MODEL_FAILED)
    return trajectory.stop_reason == "infra_error" and trajectory.failure == "world" and not by_model
