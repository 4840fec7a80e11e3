"""Export: a round's runs, masked by an arm, in the form that another trainer reads.

Reads the round's trajectories, labels and grades, or its token rows (formats trl and hf); writes one file or folder.

    exported = export(ExportConfig(format="axolotl", arm="srft", out="data.jsonl"), run.round(0))
    exported.counts["trained"], exported.left_out, exported.settings

The weights are those of `srft.train.rows.mask`, the same that `srft rows` uses. The file is there whole or not at all.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from srft.env.errors import InputError, StorageError
from srft.harness.run.store import Round
from srft.harness.run.trained import open_rows
from srft.harness.stages.rows import critics_used, critiques_by_run, refuse_evaluated, runs_with_facts
from srft.train.exports.conversation import Conversation, conversation
from srft.train.exports.form import Line, MessageFormat
from srft.train.exports.formats import FORMATS, format_of
from srft.train.exports.tokens import TokenCounts, dataset_settings, trl_settings, write_dataset, write_trl
from srft.train.rows.contamination import By
from srft.train.rows.mask import Arm, MaskPolicy
from srft.train.rows.rows import RowTable

FormatName = Literal[
    "trl", "axolotl", "ms-swift", "slime", "llama-factory", "swe-lego", "verl", "prime-rl", "nemo", "atif", "hf"
]


class ExportConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft export` does."""

    format: FormatName
    """The format of another program, see `srft export --help`."""
    out: str
    """The file or folder to write."""
    arm: Arm = "srft"
    """Which steps are masked, see `srft.train.rows.mask`."""
    critics: tuple[str, ...] = ()
    """Whose labels the arms srft and random use."""
    policy: MaskPolicy = MaskPolicy()
    """Weights of steps; its arm is set by `arm`. Token rows (trl, hf) have both in them already."""
    binary: bool = False
    """Whether to round weights to 0 and 1, for trainers that know no others."""
    evaluation: tuple[str, ...] = ()
    """Tasks that must not be among the runs, as for `srft rows`."""
    contamination: By = "repository"
    """How these tasks are compared with the runs: by repository or by instance."""


class Exported(NamedTuple):
    """What was written where. left_out: runs by reason. settings: what the other trainer's configuration needs."""

    format: str
    arm: str
    out: str
    counts: dict[str, int]
    left_out: dict[str, int]
    settings: str


def export(config: ExportConfig, round_: Round) -> Exported:
    """Write the file or folder. Raises InputError, StorageError; then what stood there before still does."""
    if not round_.trajectories.path.exists():
        raise InputError(f"{round_.trajectories.path}: no runs; collect or import some first")
    refuse_evaluated(round_, config.evaluation, by=config.contamination)
    out = Path(config.out)
    _check_name(config.format, out)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}.tmp{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        exported = _write(config, round_, temporary, out)
        if out.is_dir():
            shutil.rmtree(out)
        temporary.replace(out)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror}); name another place with --out") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
    return exported


def _check_name(format: str, out: Path) -> None:
    """A folder for hf, else a file whose name says how it is written: the readers go by it."""
    if format == "hf":
        if out.exists() and not (out / "dataset_info.json").is_file():
            raise InputError(f"--out {out}: is there and is no dataset; name a new folder")
        return
    endings = (".parquet", ".jsonl") if format == "trl" else FORMATS[format].endings
    if out.suffix not in endings or out.is_dir():
        folder = ", or a new folder" if "" in endings else ""
        named = " or ".join(ending for ending in endings if ending)
        raise InputError(f"--out {out}: expected a file that ends in {named}{folder} for the format {format}")


def _write(config: ExportConfig, round_: Round, temporary: Path, out: Path) -> Exported:
    if config.format in ("trl", "hf"):
        return _write_tokens(config, round_, temporary, out)
    return _write_messages(config, round_, temporary, out)


# ---- token rows ----


def _write_tokens(config: ExportConfig, round_: Round, temporary: Path, out: Path) -> Exported:
    if config.critics or config.policy != MaskPolicy():
        raise InputError(
            f"--format {config.format} writes the rows as `srft rows` made them: give it --critic and the policy"
        )
    table = open_rows(round_, config.arm)
    if config.format == "trl":
        counts = write_trl(table, temporary, binary=config.binary)
        settings = trl_settings(out, table.manifest.longest_row)
    else:
        if config.binary:
            raise InputError("--binary: the format hf holds any weight; leave it out")
        counts, settings = write_dataset(table, temporary), dataset_settings(out)
    left_out = dict(table.manifest.left_out)
    return Exported(config.format, config.arm, str(out), _token_counts(table, counts), left_out, settings)


def _token_counts(table: RowTable, counts: TokenCounts) -> dict[str, int]:
    named: dict[str, int] = msgspec.to_builtins(counts)
    return {"runs": table.manifest.runs, "runs_written": table.manifest.runs_used, **named}


# ---- messages ----


def _write_messages(config: ExportConfig, round_: Round, temporary: Path, out: Path) -> Exported:
    if config.policy.train == "action":
        raise InputError(
            f"policy.train: 'action' masks within a message, which {config.format} cannot say; use --format trl or hf"
        )
    form = format_of(config.format)
    counts: Counter[str] = Counter(runs=0, runs_written=0, messages=0, trained=0, masked=0)
    left_out: Counter[str] = Counter()
    fractional = False
    lines = temporary.with_name(f"{temporary.name}.lines") if form.finish else temporary
    try:
        with lines.open("wb") as file:
            for made in _conversations(config, round_, form):
                counts["runs"] += 1
                said = made if isinstance(made, str) else form.line(made)
                if isinstance(made, str) or isinstance(said, str):
                    left_out[str(said)] += 1
                    continue
                _count(counts, made, said)
                fractional |= any(weight not in (None, 0, 1) for weight in made.weights)
                file.writelines(_encoded(line) for line in (said if isinstance(said, list) else [said]))
        if form.finish and counts["runs_written"]:
            form.finish(lines, temporary)
    finally:
        if form.finish:
            lines.unlink(missing_ok=True)
    if not counts["runs_written"]:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise InputError(f"{out}: not written, as no run is left ({reasons}); name another arm or format")
    return Exported(config.format, config.arm, str(out), dict(counts), dict(left_out), form.settings(out, fractional))


def _conversations(config: ExportConfig, round_: Round, form: MessageFormat) -> Iterator[Conversation | str]:
    """Every run as messages, or the reason why not. Raises InputError for a weight that the format cannot say."""
    policy = msgspec.structs.replace(config.policy, arm=config.arm)
    critiques = critiques_by_run(round_)
    critics = critics_used([config.arm], config.critics, round_.index().critiques, round_)
    for run in runs_with_facts(round_, critiques, critics, [config.arm]):
        made = conversation(run.trajectory, run.facts[config.arm], policy, binary=config.binary)
        if isinstance(made, Conversation) and not form.fractional:
            _refuse_fractions(made, config.format)
        yield made if isinstance(made, str) else form.prepare(made)


def _encoded(line: Line) -> bytes:
    """One line of JSON. Some readers end a line at these characters too."""
    text = msgspec.json.encode(line)
    for character in ("\u0085", "\u2028", "\u2029"):
        text = text.replace(character.encode(), f"\\u{ord(character):04x}".encode())
    return text + b"\n"


def _refuse_fractions(made: Conversation, format: str) -> None:
    for place, weight in enumerate(made.weights):
        if weight not in (None, 0, 1):
            able = ", ".join(name for name, form in FORMATS.items() if form.fractional)
            raise InputError(
                f"run {made.run_id}: messages[{place}] has the weight {weight:g}, and {format} knows trained or not; "
                f"round with --binary, or use a format that knows weights ({able}, hf)"
            )


def _count(counts: Counter[str], made: Conversation, said: Line | list[Line]) -> None:
    """Where a run is one row, rows are not counted."""
    if isinstance(said, list):
        counts["rows"] += len(said)
    for name in ("nulls", "lost"):
        if count := getattr(made, name):
            counts[name] += count
    counts["runs_written"] += 1
    counts["messages"] += len(made.messages)
    counts["trained"] += made.trained
    counts["masked"] += made.masked
    counts["cut"] += made.cut
    counts["rounded"] += made.rounded
    counts["cut_off"] += made.cut_off
