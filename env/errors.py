"""Errors whose cause is outside srft. A caller's bad input is an `InputError`; our own bug is an `assert`.

    SrftError
    |-- InputError (also a ValueError)   a file, field or option that the user can fix
    |-- StorageError                     a record cannot be written (a full disk); what was written before is intact
    |-- InfrastructureError              infrastructure failed, not the agent: retry, never grade
        |-- EngineError                  no container engine, or it refused
        |-- ImageError                   an image is missing, cannot be pulled, cannot be built
        |-- SandboxDied                  the container is gone: out of memory, killed, engine restarted
        |-- GradingError                 the grader failed, not the patch
        |-- ModelError                   the endpoint is down, refuses the key, or answers nonsense

Every message says what was expected, what came, and what to do.
"""


class SrftError(Exception):
    """The root: catch this to catch everything srft raises on purpose."""


class InputError(SrftError, ValueError):
    """The caller's input is wrong. The message names the file, the field and the remedy."""


class StorageError(SrftError):
    """A record cannot be written. Nothing written before is lost."""


class InfrastructureError(SrftError):
    """The world failed. The episode is not graded and may be retried."""


class EngineError(InfrastructureError):
    """The container engine does not answer or refuses."""


class ImageError(InfrastructureError):
    """An image cannot be had."""


class SandboxDied(InfrastructureError):
    """The sandbox is gone or does not react any more. It cannot be used again."""


class GradingError(InfrastructureError):
    """The grader failed, which says nothing about the patch."""


class ModelError(InfrastructureError):
    """The model cannot be asked."""
