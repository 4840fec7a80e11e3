"""The files that `srft practice` writes besides the tasks: practice.json and trials.jsonl.

trials = TrialFile(out / "trials.jsonl")
trials.append(trial)                                # on disk when it returns
trials.read()[trial.source, trial.mutant.id]        # what a killed process had tried is not tried again
"""

import os
from pathlib import Path
from typing import Any

import msgspec

from srft.env.errors import InputError, StorageError
from srft.env.practice.trials import Trial

SCHEMA_VERSION = 1


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task: where its bug is."""

    instance_id: str
    part: str
    family: str
    kind: str
    path: str
    line: int
    function: str


class SourceRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One family or package, and what became of its mutants.

    not_called: mutants in functions that no test calls, not tried. unreliable_tests: left out of every task. dropped:
    {why: how many} of those tried.
    """

    version: str
    fingerprint: str
    mutants: int
    not_called: int
    unreliable_tests: int
    tried: int
    kept: int
    dropped: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """practice.json. finished: False while the tasks are being made. missing: tasks fewer than were asked for."""

    schema_version: int = SCHEMA_VERSION
    finished: bool
    settings: dict[str, Any]
    missing: int = 0
    kinds: dict[str, int] = {}
    sources: dict[str, SourceRecord] = {}
    tasks: tuple[TaskRecord, ...] = ()


def read_manifest(out: Path) -> Manifest | None:
    """A folder's practice.json, `None` where there is none. Raises InputError."""
    path = out / "practice.json"
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.DecodeError, OSError) as error:
        raise InputError(
            f"{path}: not a manifest of practice tasks of this version ({error}); name another --out"
        ) from None


def kept_manifest(out: Path, settings: dict[str, Any], fingerprints: dict[str, str]) -> Manifest | None:
    """The manifest of a finished making with these settings. Raises InputError where another one was begun there."""
    there = read_manifest(out)
    if there is None:
        if (out / "train").exists() or (out / "test").exists():
            raise InputError(
                f"{out}: has train/ or test/ but no practice.json, so srft did not make it; name another --out"
            )
        return None
    changed = sorted(key for key in {*there.settings, *settings} if there.settings.get(key) != settings.get(key))
    if changed:
        was = ", ".join(f"{key}={there.settings.get(key)}" for key in changed)
        raise InputError(f"{out}/practice.json: begun with {was}; give the same, or another --out")
    if not there.finished:
        return None
    made_of = {name: source.fingerprint for name, source in there.sources.items()}
    if other := sorted(name for name in {*made_of, *fingerprints} if made_of.get(name) != fingerprints.get(name)):
        raise InputError(
            f"{out}: made from another version of {', '.join(other)}; name another --out to make them anew"
        )
    return there


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Raises StorageError; the file is whole or as it was."""
    path = out / "practice.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}); make room, then give the same command"
        ) from error


class TrialFile:
    """trials.jsonl: one tried mutant a line. A line that a killed process left unfinished is cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[tuple[str, str], Trial]:
        """{(source's fingerprint, mutant's id): trial}. Raises InputError."""
        if not self._path.exists():
            return {}
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self._path, len(whole))
        trials = {}
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                trial = msgspec.json.decode(line, type=Trial)
            except msgspec.DecodeError as error:
                raise InputError(
                    f"{self._path}:{number}: not a trial of this version ({error}); remove the file"
                ) from None
            trials[trial.source, trial.mutant.id] = trial
        return trials

    def append(self, trial: Trial) -> None:
        """Raises StorageError."""
        try:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(trial) + b"\n")
        except OSError as error:
            raise StorageError(
                f"{self._path}: cannot be written ({error.strerror}); free space, then resume with the same command"
            ) from error
