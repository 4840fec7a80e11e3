"""Token rows: runs, rendered and weighted, on disk as a memory-mapped Arrow file.

Reads trajectories with their facts, a `Renderer` and a policy; writes `<folder>/rows.arrow` (one row a line of the
table), `<folder>/runs.json` (what became of each run) and `<folder>/rows.json` (the manifest: policy, tokenizer, every
count).

    counts = write_rows(folder, runs, renderer, {"srft": policy}, RowSettings(max_tokens=32768))
    rows = RowTable.open(folder / "srft")
    rows[0].input_ids, rows[0].weights          # (T,) int32 and float32, straight from the mapped file

Columns: those of `Row`. `datasets` reads the file too: `Dataset.from_file("rows.arrow")`. A run is rendered once,
however many arms are made of it.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import msgspec
import numpy
import pyarrow
from numpy.typing import NDArray

from srft.agent.records import Trajectory
from srft.critic.distil import FormConfig
from srft.env.errors import InputError, StorageError
from srft.train.rows.calls import Syntax
from srft.train.rows.mask import (
    RUNS,
    MaskPolicy,
    Part,
    RunFacts,
    RunInRows,
    RunsInRows,
    label_source,
    left_out,
    step_weights,
    token_weights,
)
from srft.train.rows.overlong import Overlong, fit
from srft.train.rows.render import Draft, Renderer, RenderError, Rendering
from srft.train.rows.tokenized_row import TokenizedRow

ROWS_VERSION = 3
"""Part of rows' fingerprints: raise it when the same renderings and weights give other rows (cutting, sliding,
duplicates, the weights of tokens). What renders has a version of its own, and so have the rules that label."""

BATCH_RUNS = 16
"""Runs whose texts are encoded together."""

VERDICTS = "verdicts.json"
"""The file in a folder of rows with the labels of its runs: run -> step -> verdict."""

SCHEMA = pyarrow.schema(
    {
        "run_id": pyarrow.string(),
        "task_id": pyarrow.string(),
        "repo": pyarrow.string(),
        "input_ids": pyarrow.list_(pyarrow.int32()),
        "weights": pyarrow.list_(pyarrow.float32()),
        "step_index": pyarrow.list_(pyarrow.int32()),
        "part": pyarrow.list_(pyarrow.uint8()),
        "mask_source": pyarrow.string(),
        "trained_tokens": pyarrow.int64(),
        "used_tokens": pyarrow.int64(),
    }
)


class RowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are cut, and from what."""

    max_tokens: Annotated[int, msgspec.Meta(gt=0)] = 32768
    """The most tokens of a row."""
    overlong: Overlong = "cut"
    """What to do with a longer row: "cut" it after the last whole step that fits, "drop" it, or "slide": continue in
    further rows that keep the opening and train each step once."""
    source: Literal["auto", "rendered"] = "auto"
    """Where tokens come from: "auto" takes a run's sampled token ids where it has any, "rendered" the template."""
    rewritten: Literal["split", "append", "refuse"] = "split"
    """What to do with runs whose history the template rewrites: "split" into a row a rewrite, "refuse", or "append"
    where only how replies begin or end differs (say, a thinking block that the prompt closes and later prompts lack,
    or another end of turn): the one row keeps what each prompt and each reply ended with."""
    calls: Syntax | None = None
    """Write tool calls as text in this syntax, xml or json, for models whose template has none."""
    tools: Literal["refuse", "leave_out"] = "refuse"
    """What to do with runs whose tool descriptions the template does not write: "refuse" them, or "leave_out" the
    descriptions."""
    per_task: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """Of each task, keep at most so many resolved and as many unresolved runs, those of the newest round first."""


class Row(NamedTuple):
    """One stored row of T tokens.

    trained_tokens: those with a weight above 0. used_tokens: up to and with the last of them.
    """

    run_id: str
    task_id: str
    repo: str
    input_ids: NDArray[numpy.int32]
    weights: NDArray[numpy.float32]
    step_index: NDArray[numpy.int32]
    part: NDArray[numpy.uint8]
    mask_source: str
    trained_tokens: int
    used_tokens: int


class RunToRender(NamedTuple):
    """A run and, by arm, what its mask depends on: arms may take their labels from different sources."""

    trajectory: Trajectory
    facts: Mapping[str, RunFacts]


class Manifest(msgspec.Struct, kw_only=True):
    """What a folder of rows holds, and what was left out on the way. Every number is a count.

    left_out: runs by reason. dropped: rows by reason. remarks: what was not plain (history_rewritten: new rows because
    the template rewrote history; sampled_drift: because a prompt did not repeat what was sampled; other_tokenizer: runs
    whose sampled ids are not this tokenizer's; other_prompt, other_reply, sampled_incomplete: runs whose ids stand
    behind another prompt, are not this reply's or not all there; end_not_trained: replies that end otherwise in later
    prompts, whose end carries no loss; end_kept: such replies whose own end the row keeps, with rewritten=append;
    tokens_repeated: of the prompts of further rows, which the rows before hold in part; thinking_left_out: steps whose
    thinking is not in the row; steps_cut: steps behind the cut of an overlong row). keeps_history: the setting with
    which fewer histories would be rewritten, where some were.
    written_tokens: those the model wrote; trained_tokens: those of them with a weight above 0; weight: their sum.
    tokenizer: where it was loaded from; vocabulary: a hash of it without its template, which a model must share.
    form: how runs are shown and verdicts written, in rows for a critic.
    """

    schema_version: int = 1
    arm: str
    fingerprint: str
    tokenizer: str
    vocabulary: str
    policy: MaskPolicy
    settings: RowSettings
    runs: int = 0
    runs_used: int = 0
    rows: int = 0
    tokens: int = 0
    written_tokens: int = 0
    trained_tokens: int = 0
    weight: float = 0.0
    steps: int = 0
    steps_masked: int = 0
    longest_row: int = 0
    left_out: dict[str, int] = {}
    dropped: dict[str, int] = {}
    remarks: dict[str, int] = {}
    keeps_history: str | None = None
    mask_sources: dict[str, int] = {}
    critics: list[str] = []
    form: FormConfig | None = None
    task_ids: list[str] = []
    repos: list[str] = []

    @property
    def masked_share(self) -> float | None:
        """The share of what the models wrote that carries no loss."""
        return 1 - self.trained_tokens / self.written_tokens if self.written_tokens else None


def write_rows(
    folder: Path,
    runs: Iterable[RunToRender],
    renderer: Renderer,
    policies: Mapping[str, MaskPolicy],
    settings: RowSettings,
    *,
    fingerprints: Mapping[str, str],
    critics: Sequence[str] = (),
    form: FormConfig | None = None,
    left_out: Mapping[str, int] | None = None,
) -> dict[str, Manifest]:
    """Write `<folder>/<arm>/` for every arm. A run that cannot be rendered is counted, not fatal.

    fingerprints: arm -> a hash of everything that went in. critics: whose labels went in. form: of rows for a critic.
    left_out: what was left out before. The manifest keeps all of these. Raises StorageError.
    """
    arms: dict[str, _ArmWriter] = {}
    try:
        for arm, policy in policies.items():
            arms[arm] = _ArmWriter(
                folder / arm, arm, policy=policy, settings=settings, renderer=renderer, fingerprint=fingerprints[arm]
            )
        for run, rendering in _rendered(runs, renderer, settings):
            for writer in arms.values():
                writer.add(run.trajectory, run.facts[writer.manifest.arm], rendering)
        for writer in arms.values():
            writer.close()
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written ({error.strerror or error}); make room and try again"
        ) from error
    finally:
        for writer in arms.values():
            with suppress(OSError):  # on a full disk it fails too, and would hide what happened
                writer.close()
    for writer in arms.values():
        is_theirs = form is not None or label_source(writer.manifest.policy.arm) == "critic"
        writer.manifest.critics, writer.manifest.form = list(critics) if is_theirs else [], form
        writer.count_left_out(left_out or {})
    return {arm: writer.finish() for arm, writer in arms.items()}


def _rendered(
    runs: Iterable[RunToRender], renderer: Renderer, settings: RowSettings
) -> Iterator[tuple[RunToRender, Rendering | str]]:
    """Every run with its rendering, or with the reason why there is none. One batch is encoded while the next is
    made into text."""

    def drafted(run: RunToRender) -> Draft | str:
        try:
            return renderer.draft(run.trajectory, source=settings.source)
        except InputError as error:
            return _reason(error)

    runs = iter(runs)
    with ThreadPoolExecutor(1) as pool:
        before: list[RunToRender] = []
        encoding: Future[list[Rendering | str]] | None = None
        while batch := list(islice(runs, BATCH_RUNS)):
            following = pool.submit(_encoded, [drafted(run) for run in batch], renderer)
            if encoding is not None:
                yield from zip(before, encoding.result(), strict=True)
            before, encoding = batch, following
        if encoding is not None:
            yield from zip(before, encoding.result(), strict=True)


def _encoded(drafts: list[Draft | str], renderer: Renderer) -> list[Rendering | str]:
    whole = [draft for draft in drafts if isinstance(draft, Draft)]
    try:
        encoded = iter(renderer.encode(whole))
    except InputError:  # of one of them: each by itself
        return [_encoded_or_reason(draft, renderer) for draft in drafts]
    return [draft if isinstance(draft, str) else next(encoded) for draft in drafts]


def _encoded_or_reason(draft: Draft | str, renderer: Renderer) -> Rendering | str:
    try:
        return draft if isinstance(draft, str) else renderer.encode([draft])[0]
    except InputError as error:
        return _reason(error)


def _reason(error: InputError) -> str:
    return f"not {'rendered' if isinstance(error, RenderError) else 'readable'}: {error}"


class _ArmWriter:
    """One arm's file and its counts."""

    def __init__(
        self,
        folder: Path,
        arm: str,
        *,
        policy: MaskPolicy,
        settings: RowSettings,
        renderer: Renderer,
        fingerprint: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "rows.json").unlink(missing_ok=True)  # without it the folder does not count as finished
        self.manifest = Manifest(
            arm=arm,
            fingerprint=fingerprint,
            tokenizer=str(renderer.tokenizer.name_or_path),
            vocabulary=renderer.vocabulary,
            policy=policy,
            settings=settings,
        )
        self._renderer = renderer
        self._left_out: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._remarks: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._tasks: set[str] = set()
        self._repos: set[str] = set()
        self._seen: set[bytes] = set()
        self._verdicts: dict[str, dict[int, str]] = {}
        self._runs: dict[str, RunInRows] = {}
        self._sink = pyarrow.OSFile(str(folder / "rows.arrow"), "wb")
        self._stream = pyarrow.ipc.new_stream(self._sink, SCHEMA)

    def add(self, trajectory: Trajectory, facts: RunFacts, rendering: Rendering | str) -> None:
        """The rows of one run, as far as the arm takes them."""
        self.manifest.runs += 1
        policy, settings = self.manifest.policy, self.manifest.settings
        if (reason := left_out(facts, policy)) or isinstance(rendering, str):
            self._leave_out(trajectory, reason or str(rendering))
            return
        if rendering.remarks["history_rewritten"] and settings.rewritten == "refuse":
            self._leave_out(trajectory, "history_rewritten")
            return
        self._remarks.update(rendering.remarks)
        weight_S = step_weights(facts, policy)
        rows = []
        for whole in rendering.rows:
            fitted = fit(whole, max_tokens=settings.max_tokens, how=settings.overlong)
            self._dropped.update(fitted.dropped)
            self._remarks.update(fitted.remarks)
            rows += [
                (row, token_weights(row.step_index, row.part, weight_S, train=policy.train)) for row in fitted.rows
            ]
        kept = [(row, weight_T) for row, weight_T in rows if self._is_kept(row, weight_T)]
        self._count(trajectory, kept, weight_S)
        self._runs[trajectory.id] = RunInRows(
            weights={step: float(weight) for step, weight in enumerate(weight_S) if weight != 1},
            not_trained=_not_trained(weight_S, rendering.rows, rows, kept, overlong=settings.overlong),
            thinking_left_out=rendering.remarks["thinking_left_out"] > 0,
        )
        if kept:
            self._stream.write_batch(_batch(trajectory, kept))
            judged: dict[int, str] = {
                step: label.verdict for step, label in facts.labels.items() if label.verdict is not None
            }
            self._verdicts |= {trajectory.id: judged} if judged else {}

    def _leave_out(self, trajectory: Trajectory, reason: str) -> None:
        self._left_out[reason] += 1
        self._runs[trajectory.id] = RunInRows(left_out=reason)

    def _is_kept(self, row: TokenizedRow, weight_T: NDArray[numpy.float32]) -> bool:
        if not used_tokens(weight_T):
            self._dropped["nothing_trained"] += 1
            return False
        digest = hashlib.sha256(row.input_ids.tobytes() + weight_T.tobytes()).digest()
        if digest in self._seen:
            self._dropped["duplicate"] += 1
            return False
        self._seen.add(digest)
        return True

    def _count(
        self,
        trajectory: Trajectory,
        kept: list[tuple[TokenizedRow, NDArray[numpy.float32]]],
        weight_S: NDArray[numpy.float32],
    ) -> None:
        manifest = self.manifest
        manifest.runs_used += bool(kept)
        manifest.rows += len(kept)
        for row, weight_T in kept:
            manifest.tokens += len(row.input_ids)
            manifest.longest_row = max(manifest.longest_row, len(row.input_ids))
            manifest.written_tokens += int((row.part != Part.CONTEXT).sum())
            manifest.trained_tokens += int((weight_T > 0).sum())
            manifest.weight += float(weight_T.sum(dtype=numpy.float64))
            self._sources[row.mask_source] += 1
        if kept:
            steps = numpy.unique(numpy.concatenate([row.step_index for row, _ in kept]))
            steps = steps[steps >= 0]
            manifest.steps += len(steps)
            manifest.steps_masked += int((weight_S[steps] == 0).sum())
            self._tasks.add(trajectory.task_id)
            self._repos.add(trajectory.repo)

    def count_left_out(self, reasons: Mapping[str, int]) -> None:
        self._left_out.update(reasons)
        self.manifest.runs += sum(reasons.values())

    def close(self) -> None:
        """Write the file's end. A second time does nothing. Raises OSError."""
        if self._sink.closed:
            return
        try:
            self._stream.close()
        finally:
            self._sink.close()

    def finish(self) -> Manifest:
        """Write the manifest, which says that the rows are whole."""
        manifest = self.manifest
        manifest.left_out, manifest.dropped = dict(self._left_out), dict(+self._dropped)
        manifest.remarks, manifest.mask_sources = dict(+self._remarks), dict(self._sources)
        if manifest.remarks.get("history_rewritten"):
            manifest.keeps_history = self._renderer.keeps_history()
        manifest.task_ids, manifest.repos = sorted(self._tasks), sorted(self._repos)
        (self.folder / VERDICTS).write_bytes(msgspec.json.encode(self._verdicts))
        renderer = self._renderer
        runs = RunsInRows(template=renderer.options, thinking=renderer.thinking, runs=self._runs)
        (self.folder / RUNS).write_bytes(msgspec.json.encode(runs))
        content = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        temporary = self.folder / ".rows.json.tmp"
        temporary.write_bytes(content)
        temporary.replace(self.folder / "rows.json")
        return manifest


def _not_trained(
    weight_S: NDArray[numpy.float32],
    whole: Sequence[TokenizedRow],
    fitted: Sequence[tuple[TokenizedRow, NDArray[numpy.float32]]],
    kept: Sequence[tuple[TokenizedRow, NDArray[numpy.float32]]],
    *,
    overlong: Overlong,
) -> dict[int, str]:
    """See `RunInRows`. whole: a run's rows as rendered; fitted: those that are short enough; kept: those written."""
    trained = _steps_in(kept, with_loss=True)
    elsewhere = _steps_in(fitted, with_loss=True)
    fits = _steps_in(fitted, with_loss=False)
    rendered = {int(step) for row in whole for step in numpy.unique(row.step_index[row.part != Part.CONTEXT])}
    reasons = {}
    for step, weight in enumerate(weight_S):
        if step in trained or (weight == 0 and step in fits):
            continue
        if step in elsewhere:
            reasons[step] = "duplicate"
        elif step in fits:
            reasons[step] = "no_action"
        elif step in rendered:
            reasons[step] = "overlong" if overlong == "drop" else "cut"
        else:
            reasons[step] = "not_rendered"
    return reasons


def _steps_in(rows: Sequence[tuple[TokenizedRow, NDArray[numpy.float32]]], *, with_loss: bool) -> set[int]:
    """The steps whose replies are in these rows; with_loss: those with a trained token alone."""
    chosen = [row.step_index[weight_T > 0 if with_loss else row.part != Part.CONTEXT] for row, weight_T in rows]
    return {int(step) for steps in chosen for step in numpy.unique(steps)}


def _batch(trajectory: Trajectory, rows: list[tuple[TokenizedRow, NDArray[numpy.float32]]]) -> pyarrow.RecordBatch:
    count = len(rows)
    columns: dict[str, Any] = {
        "run_id": [trajectory.id] * count,
        "task_id": [trajectory.task_id] * count,
        "repo": [trajectory.repo] * count,
        "input_ids": _lists([row.input_ids for row, _ in rows]),
        "weights": _lists([weight_T for _, weight_T in rows]),
        "step_index": _lists([row.step_index for row, _ in rows]),
        "part": _lists([row.part for row, _ in rows]),
        "mask_source": [row.mask_source for row, _ in rows],
        "trained_tokens": [int((weight_T > 0).sum()) for _, weight_T in rows],
        "used_tokens": [used_tokens(weight_T) for _, weight_T in rows],
    }
    return pyarrow.record_batch(columns, schema=SCHEMA)


def _lists(arrays: list[NDArray[Any]]) -> pyarrow.ListArray:
    offsets = numpy.concatenate([[0], numpy.cumsum([len(array) for array in arrays])]).astype(numpy.int32)
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(numpy.concatenate(arrays)))


def used_tokens(weight_T: NDArray[numpy.float32]) -> int:
    """Tokens up to and with the last trained one: all that the trainer needs. The first has no prediction.

    >>> used_tokens(numpy.array([1, 0, 1, 1, 0], dtype=numpy.float32)), used_tokens(numpy.array([1, 0]))
    (4, 0)
    """
    trained = numpy.flatnonzero(weight_T[1:] > 0)
    return int(trained[-1]) + 2 if len(trained) else 0


class RowTable(Sequence[Row]):
    """The rows of a folder, read from the mapped file as they are asked for."""

    def __init__(self, folder: Path, manifest: Manifest, table: pyarrow.Table) -> None:
        self.folder, self.manifest, self._table = folder, manifest, table
        self._chunks = [batch for batch in table.to_batches() if batch.num_rows]
        self._starts = numpy.cumsum([0, *(chunk.num_rows for chunk in self._chunks)])

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Raises InputError where the folder holds no finished rows."""
        folder = Path(folder)
        try:
            manifest = msgspec.json.decode((folder / "rows.json").read_bytes(), type=Manifest)
            with pyarrow.memory_map(str(folder / "rows.arrow")) as source:
                table = pyarrow.ipc.open_stream(source).read_all()
        except FileNotFoundError:
            raise InputError(f"{folder}: no finished rows in it; make them with `srft rows`") from None
        except (msgspec.DecodeError, pyarrow.ArrowException) as error:
            raise InputError(f"{folder}: not readable rows ({error}); make them again with `srft rows`") from None
        return cls(folder, manifest, table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        number = int(numpy.searchsorted(self._starts, place, side="right")) - 1
        chunk, inside = self._chunks[number], place - int(self._starts[number])
        values = (
            scalar.values.to_numpy() if isinstance(scalar, pyarrow.ListScalar) else scalar.as_py()
            for scalar in (chunk.column(name)[inside] for name in SCHEMA.names)
        )
        return Row(*values)

    @property
    def used_tokens_N(self) -> NDArray[numpy.int64]:
        """(N,) each row's used tokens, without reading the rows."""
        used: NDArray[numpy.int64] = self._table["used_tokens"].to_numpy()
        return used

    def highest_token_id(self) -> int:
        """Of all rows."""
        return max(int(chunk.column("input_ids").values.to_numpy().max()) for chunk in self._chunks)

    @functools.cached_property
    def verdicts(self) -> dict[str, dict[int, str]]:
        """Run -> step -> verdict, of the labels that the arm uses."""
        path = self.folder / VERDICTS
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[int, str]]) if path.exists() else {}

    @property
    def task_ids(self) -> list[str]:
        """Each row's task."""
        ids: list[str] = self._table["task_id"].to_pylist()
        return ids
