"""Text to token rows: `write_rows` for one arm, against `tokenizers` alone on the same conversations.

Ours renders the template, finds what the model wrote, encodes it apart, decodes it again to check it, weighs it and
writes an Arrow file. The peer gets the rendered text for nothing and encodes it, once, as one piece a run; its ids are
taken. Both go over all recorded runs in every round, half by half in turn.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.recorded_runs import NO_MODEL, NO_RUNS, model, recorded_runs, write_arm
from benchmarks.rows import Bench, Goal, Row, rate_row
from tokenizers import Tokenizer

from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RunToRender
from srft.train.rows.template import chat_messages

TOKENIZERS = {"rows_speed_smollm2": "smollm2-135m", "rows_speed_qwen3": "qwen3-tokenizer"}
ROUNDS = 5
WHOLE = RowSettings(max_tokens=1_000_000)
GOAL = Goal(at_least_times=0.9)
UNIT = "Mtokens/s"


class Pace:
    """Tokens and seconds of one side in one round."""

    def __init__(self) -> None:
        self.tokens = 0
        self.wall_s = 0.0

    def add(self, tokens: int, began_s: float) -> None:
        self.wall_s += time.perf_counter() - began_s
        self.tokens += tokens

    @property
    def mtokens_per_s(self) -> float:
        return self.tokens / self.wall_s / 1e6


def rows_speed(bench: Bench) -> dict[str, Row]:
    runs = recorded_runs()
    rows = {}
    for name, of_tokenizer in TOKENIZERS.items():
        folder = model(of_tokenizer)
        if runs is None or folder is None:
            reason = NO_RUNS if runs is None else NO_MODEL
            rows[name] = Row(value=None, unit=UNIT, peer=reason, goal=str(GOAL))
        else:
            rows[name] = _row(bench, runs, Renderer.load(folder))
    return rows


def _row(bench: Bench, runs: list[RunToRender], renderer: Renderer) -> Row:
    texts = [_text(run, renderer) for run in runs]
    backend: Tokenizer = renderer.tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    halves = [slice(0, len(runs) // 2), slice(len(runs) // 2, len(runs))]
    ours: list[Pace] = []
    theirs: list[Pace] = []
    for _ in range(bench.rounds(ROUNDS)):
        ours.append(Pace())
        theirs.append(Pace())
        for half in halves:
            _write(ours[-1], runs[half], renderer)
            _encode(theirs[-1], texts[half], backend)
    note = f"{len(runs)} runs, {ours[0].tokens / 1e6:.2f} M tokens of ours and {theirs[0].tokens / 1e6:.2f} M of theirs"
    return rate_row(
        [pace.mtokens_per_s for pace in ours],
        unit=UNIT,
        peer="tokenizers encode_batch_fast",
        peer_per_s=[pace.mtokens_per_s for pace in theirs],
        goal=GOAL,
        note=note,
    )


def _text(run: RunToRender, renderer: Renderer) -> str:
    text: str = renderer.tokenizer.apply_chat_template(  # type: ignore[assignment]
        chat_messages(run.trajectory)[0], tokenize=False
    )
    return text


def _write(pace: Pace, runs: Sequence[RunToRender], renderer: Renderer) -> None:
    with tempfile.TemporaryDirectory(prefix="srft-bench-") as folder:
        began_s = time.perf_counter()
        manifest = write_arm(Path(folder), runs, renderer, WHOLE)
        pace.add(manifest.tokens, began_s)
    assert manifest.runs_used == len(runs), manifest.left_out


def _encode(pace: Pace, texts: Sequence[str], backend: Tokenizer) -> None:
    began_s = time.perf_counter()
    encoded = [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    pace.add(sum(map(len, encoded)), began_s)
