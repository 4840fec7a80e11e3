"""Official verdicts: a report of the swebench harness, of a whole run or of one instance.

read_report("model.run.json")["sympy__sympy-20590"]       # True: resolved
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srft.env.errors import InputError

_EXPECTED = (
    "expected a swebench report: lists of ids (resolved_ids, unresolved_ids, ...), or one instance's report.json"
)
_NOT_RESOLVED = ("unresolved_ids", "error_ids", "empty_patch_ids")


def read_report(path: str | Path) -> dict[str, bool]:
    """Instance id -> resolved, for the instances that have a verdict. Raises InputError.

    Not resolved, as in the official count: unresolved_ids, error_ids (the patch does not apply) and empty_patch_ids.
    No verdict: what was not run, and infra_failure_ids, whose failure says nothing about the patch.
    """
    try:
        report = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); {_EXPECTED}") from None
    if not isinstance(report, dict):
        raise InputError(f"{path}: a {type(report).__name__}; {_EXPECTED}")
    if "resolved_ids" in report:
        return _of_run(report, path)
    return {instance_id: _of_instance(entry, instance_id, path) for instance_id, entry in report.items()}


def _of_run(report: dict[str, Any], path: str | Path) -> dict[str, bool]:
    resolved = _ids(report, "resolved_ids", path)
    others = {name: _ids(report, name, path) for name in _NOT_RESOLVED if name in report}
    for name, ids in others.items():
        if both := sorted(resolved & ids):
            raise InputError(f"{path}: {both[0]} is in resolved_ids and in {name}; expected one verdict")
    verdicts = dict.fromkeys(set().union(*others.values()), False) | dict.fromkeys(resolved, True)
    unknown = _ids(report, "infra_failure_ids", path) if "infra_failure_ids" in report else set()
    return {instance_id: verdicts[instance_id] for instance_id in sorted(verdicts) if instance_id not in unknown}


def _ids(report: dict[str, Any], name: str, path: str | Path) -> set[str]:
    ids = report[name]
    if not isinstance(ids, list) or not all(isinstance(instance_id, str) for instance_id in ids):
        raise InputError(f"{path}: {name}: expected a list of instance ids, got {ids!r:.80}")
    return set(ids)


def _of_instance(entry: Any, instance_id: str, path: str | Path) -> bool:
    resolved = entry.get("resolved") if isinstance(entry, dict) else None
    if not isinstance(resolved, bool):
        raise InputError(f"{path}: {instance_id}: resolved: expected true or false, got {resolved!r:.80}; {_EXPECTED}")
    return resolved
