"""One finding of the doctor.

Finding("cpus", "warning", "1", remedy="take --workers 1")
"""

from typing import Literal

import msgspec

State = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """What one check found. remedy: what to do about it; `None` where nothing is wrong."""

    name: str
    state: State
    found: str
    remedy: str | None = None
