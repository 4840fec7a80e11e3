"""A run as dataframes, for a notebook: an episode a row, a step a row, a verdict a row.

    >>> import srft                                     # doctest: +SKIP
    >>> run = srft.open_run("runs/first")               # doctest: +SKIP
    >>> run.df().groupby("model").resolved.mean()       # doctest: +SKIP

Reads a run directory through `harness/run`, and writes nothing. All rounds and evaluations are in each frame, told
apart by `folder`; `id` joins the three. What is not known is missing (`pandas.NA`), never 0. pandas is imported when
the first frame is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srft.harness.run.find import find_run, places_of
from srft.harness.run.store import Round

if TYPE_CHECKING:
    import pandas

    from srft.agent.records import Step
    from srft.harness.run.entries import RunEntry
    from srft.harness.run.index import Index

EPISODES = {
    "folder": "string",
    "id": "string",
    "task_id": "string",
    "repo": "string",
    "attempt": "Int64",
    "model": "string",
    "outcome": "string",
    "resolved": "boolean",
    "not_graded_because": "string",
    "stop_reason": "string",
    "steps": "Int64",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "cost_usd": "Float64",
    "wall_s": "Float64",
    "format_errors": "Int64",
    "timed_out_steps": "Int64",
    "changes_tests": "boolean",
}
STEPS = {
    "folder": "string",
    "id": "string",
    "task_id": "string",
    "attempt": "Int64",
    "step": "Int64",
    "author": "string",
    "tool": "string",
    "action": "string",
    "exit_code": "Int64",
    "timed_out": "boolean",
    "error": "string",
    "wall_s": "Float64",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "cost_usd": "Float64",
    "content": "string",
    "reasoning": "string",
    "observation": "string",
}
LABELS = {
    "folder": "string",
    "id": "string",
    "task_id": "string",
    "attempt": "Int64",
    "step": "Int64",
    "critic": "string",
    "source": "string",
    "verdict": "string",
    "confidence": "Float64",
    "reason": "string",
    "fingerprint": "string",
}


def open_run(path: str | Path) -> RunFrames:
    """A run directory, to be read as dataframes. Raises InputError where it is not one."""
    return RunFrames(find_run(path))


class RunFrames:
    """A run directory. Each frame is read anew, so that a run may be looked at while it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"open_run({str(self.path)!r})"

    def df(self) -> pandas.DataFrame:
        """An episode a row: what it is of, what it came to, what it took."""
        return _frame(EPISODES, (_episode(folder, index, run) for folder, index, run in self._runs()))

    def steps_df(self, *, texts: bool = True) -> pandas.DataFrame:
        """A step a row. texts: with content, thinking and observation, which is most of a run's size."""
        kept = {
            name: kind for name, kind in STEPS.items() if texts or name not in ("content", "reasoning", "observation")
        }
        rows = (
            {**_of(folder, run), **_step(step)}
            for folder, index, run in self._runs()
            for step in index.trajectory(run).steps
        )
        return _frame(kept, rows)

    def labels_df(self) -> pandas.DataFrame:
        """A verdict a row, of every critic and person. Where one spoke twice of a run, the last word is the last row of
        that fingerprint; a step on which nothing was said has no verdict."""
        rows = (
            {
                **_of(folder, run),
                "step": label.step,
                "critic": told.critic,
                "source": told.source,
                "verdict": label.verdict,
                "confidence": label.confidence,
                "reason": label.reason,
                "fingerprint": told.fingerprint,
            }
            for folder, index, run in self._runs()
            for told in index.critiques_of(run.id)
            for label in told.labels
        )
        return _frame(LABELS, rows)

    def _runs(self) -> Iterator[tuple[str, Index, RunEntry]]:
        """(folder, its index, episode) of each episode that counts, in the order of the files."""
        for place in places_of(self.path):
            index = Round(place).index()
            folder = place.relative_to(self.path).as_posix()
            yield from ((folder, index, run) for run in index.standing)


def _of(folder: str, run: RunEntry) -> dict[str, Any]:
    return {"folder": folder, "id": run.id, "task_id": run.task_id, "attempt": run.attempt}


def _episode(folder: str, index: Index, run: RunEntry) -> dict[str, Any]:
    outcome = index.outcome(run)
    return {
        **_of(folder, run),
        "repo": run.repo or None,
        "model": run.model or None,
        "outcome": outcome.name,
        "resolved": outcome.resolved,
        "not_graded_because": outcome.reason,
        "stop_reason": run.stop_reason,
        "steps": run.steps,
        "prompt_tokens": run.usage.prompt_tokens,
        "completion_tokens": run.usage.completion_tokens,
        "cost_usd": run.cost_usd,
        "wall_s": run.wall_s,
        "format_errors": run.format_errors,
        "timed_out_steps": run.timed_out_steps,
        "changes_tests": index.tampers(run),
    }


def _step(step: Step) -> dict[str, Any]:
    from srft.agent.models.human import action_text

    usage = step.usage
    return {
        "step": step.index,
        "author": step.author,
        "tool": step.action.tool if step.action else None,
        "action": action_text(step.action) if step.action else None,
        "exit_code": step.exit_code,
        "timed_out": step.timed_out,
        "error": step.error,
        "wall_s": step.wall_s,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_usd": usage.cost_usd if usage else None,
        "content": step.content,
        "reasoning": step.reasoning,
        "observation": step.observation,
    }


def _frame(columns: dict[str, str], rows: Iterator[dict[str, Any]]) -> pandas.DataFrame:
    import pandas

    values: dict[str, list[Any]] = {name: [] for name in columns}
    for row in rows:
        for name, given in values.items():
            given.append(row[name])
    return pandas.DataFrame({name: pandas.array(values[name], dtype=kind) for name, kind in columns.items()})
