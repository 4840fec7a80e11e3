"""Hooks: a command or a webhook that is told when a stage ends, and when something fails.

Writes nothing. What a hook is told is one JSON object:

    {"event": "stage", "run": "/data/runs/demo", "round": "round-001", "stage": "evaluate.srft", "wall_s": 812.4,
     "figures": {"resolved": 15, "tasks": 40, ...}, "reason": null, "at": "2026-11-30T12:00:00+00:00",
     "text": "demo, round-001: evaluate.srft ended after 0:13:32"}

    hooks = Hooks(HooksConfig(command="notify-me"), Path("runs/demo"))
    hooks.stage("collect", Path("runs/demo/round-000"), wall_s=60.0, figures={"episodes": 20})
    with hooks.failures():
        ...                                  # whatever ends it is told as the event "failure"

A hook that fails is reported in the log; the run continues.
"""

import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from loguru import logger

from srft.env.errors import InputError
from srft.env.identity import MAY_CHANGE
from srft.harness.stages.progress import clock

SHOWN_CHARS = 300
Event = Literal["stage", "finished", "stopped", "failure"]


class HooksConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to tell at the end of each stage, at the end of the command, and at a failure. The event is a JSON object
    with `event` (stage, finished, stopped or failure), `run`, `round`, `stage`, `figures`, `wall_s`, `reason`, `at`
    and a sentence, `text`."""

    command: Annotated[str | None, MAY_CHANGE] = None
    """A shell command, which is given the event on stdin."""
    url: Annotated[str | None, MAY_CHANGE] = None
    """A webhook, which the event is posted to. `$NAME` in it is an environment variable, so that an address
    that is a secret need not be written down."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0), MAY_CHANGE] = 30.0
    """Seconds until a hook that does not end, or does not answer, is given up."""

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("http://", "https://", "$")):
            raise InputError(
                f"hooks.url {_host(self.url)}: expected http://..., https://... or $NAME, a variable that holds it"
            )


class Hooks:
    """The hooks of one command on a run."""

    def __init__(self, config: HooksConfig, run: Path) -> None:
        self._config, self._run = config, run

    def stage(self, name: str, folder: Path, *, wall_s: float, figures: dict[str, Any]) -> None:
        """A stage ended. folder: the round's or the evaluation's."""
        self._tell("stage", f"{name} ended after {clock(wall_s)}", name, folder, wall_s=wall_s, figures=figures)

    def finished(self) -> None:
        self._tell("finished", "all is done")

    def stopped(self, reason: str) -> None:
        self._tell("stopped", f"stopped: {reason}", reason=reason)

    @contextmanager
    def failures(self, *, but: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
        """Tell of what ends the block, and let it pass. but: what is no failure."""
        try:
            yield
        except but:
            raise
        except BaseException as error:
            reason = str(error) or type(error).__name__
            self._tell("failure", f"failed: {reason}", reason=reason)
            raise

    def _tell(self, event: Event, what: str, stage: str = "", folder: Path | None = None, **facts: Any) -> None:
        if self._config.command is None and self._config.url is None:
            return
        place = self._run if folder is None else folder
        round_ = (
            place.relative_to(self._run).as_posix() if place != self._run and place.is_relative_to(self._run) else ""
        )
        name = self._run.resolve().name
        told = {
            "event": event,
            "run": str(self._run.resolve()),
            "round": round_,
            "stage": stage,
            "figures": facts.get("figures", {}),
            "wall_s": facts.get("wall_s"),
            "reason": facts.get("reason"),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "text": f"{name}{f', {round_}' if round_ else ''}: {what}",
        }
        body = msgspec.json.encode(told)
        if self._config.command is not None:
            self._say(_run(self._config.command, body, self._config.timeout_s), "hooks.command", event)
        if self._config.url is not None:
            self._say(_post(self._config.url, body, self._config.timeout_s), "hooks.url", event)

    def _say(self, problem: str | None, hook: str, event: str) -> None:
        if problem:
            logger.warning("{} ({}): {}; the run continues", hook, event, problem)


def _run(command: str, body: bytes, timeout_s: float) -> str | None:
    """Why it failed; `None` where it did not."""
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is for the run
    )
    try:
        _, said = process.communicate(body, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"not ended after {timeout_s:g} s, so it was killed"
    words = " ".join(said.decode(errors="replace").split())[-SHOWN_CHARS:]
    return f"exit code {process.returncode}{f' ({words})' if words else ''}" if process.returncode else None


def _post(url: str, body: bytes, timeout_s: float) -> str | None:
    """Why it failed; `None` where it did not. The address may be a secret, so its host alone is named."""
    address = os.path.expandvars(url)
    if not address.startswith(("http://", "https://")):
        return f"{url if url.startswith('$') else _host(url)} is not an address that begins with http:// or https://"
    try:
        request = urllib.request.Request(address, body, {"content-type": "application/json"}, method="POST")
        with urllib.request.urlopen(request, timeout=timeout_s):
            return None
    except urllib.error.HTTPError as error:
        return f"{_host(address)} answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return f"{_host(address)} cannot be reached ({getattr(error, 'reason', error)})"


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}"
    except ValueError:
        return "the address"
