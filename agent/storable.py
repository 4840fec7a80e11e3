"""A trajectory that can be read back from its file, whatever a foreign model has put into it.

named(trajectory).id, named(trajectory).stop_reason          # '0b1f...', 'infra_error' where it had to be repaired
"""

from __future__ import annotations

import traceback
from typing import Any, TypeVar

import msgspec

from srft.agent.models.contract import well_formed
from srft.agent.records import Trajectory, trajectory_id

S = TypeVar("S", bound=msgspec.Struct)
_DECODER = msgspec.json.Decoder(Trajectory)


def named(trajectory: Trajectory) -> Trajectory:
    """The trajectory with its id. One that could not be read back is repaired and becomes an infra_error: our bug."""
    try:
        _DECODER.decode(msgspec.json.encode(trajectory))
    except Exception:  # noqa: BLE001 - the boundary of an episode: this too costs one episode, never the batch
        detail = f"the record of an episode that ended as {trajectory.stop_reason}: {traceback.format_exc()}"
        trajectory = msgspec.structs.replace(
            _repaired(trajectory), stop_reason="infra_error", detail=well_formed(detail), failure="bug"
        )
    content_id = trajectory_id(
        task_id=trajectory.task_id,
        model=trajectory.model,
        attempt=trajectory.attempt,
        messages=trajectory.messages,
    )
    return msgspec.structs.replace(trajectory, id=content_id)


def _repaired(trajectory: Trajectory) -> Trajectory:
    """The trajectory with what JSON cannot hold replaced, and without the values that would not be read back."""
    storable: Trajectory = _storable(trajectory)
    steps = tuple(_readable(step) for step in storable.steps)
    return _readable(msgspec.structs.replace(storable, steps=steps))


def _readable(record: S) -> S:
    """The record with a field's default in the place of a value that is not of the field's type."""
    replaced = {}
    for field in msgspec.structs.fields(type(record)):
        try:
            msgspec.json.decode(msgspec.json.encode(getattr(record, field.name)), type=field.type)
        except msgspec.MsgspecError:
            default: Any = () if field.name in ("messages", "steps") else {} if field.name == "sampling" else None
            replaced[field.name] = default if field.default is msgspec.NODEFAULT else field.default
    return msgspec.structs.replace(record, **replaced)


def _storable(value: Any) -> Any:
    """The value as JSON can hold it: lone surrogates replaced, unknown objects as their repr."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, msgspec.Struct):
        fields = {name: _storable(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    if isinstance(value, dict):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_storable(member) for member in value)
    return value if value is None or isinstance(value, bool | int | float) else well_formed(repr(value))
