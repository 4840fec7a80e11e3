"""Coloured tokens: the pieces are the decoded row, whatever is in it, and nothing in them is obeyed by a terminal."""

import unicodedata

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srft.critic.labels.labels import StepLabel
from srft.train.rows.mask import MaskPolicy, Part, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import Row, RowSettings, RowTable, RunToRender, write_rows
from srft.train.rows.show import figures, inert, pieces, rows_of_run
from tests.train.conftest import CHATML, DROPS_THINKING, make_run

ACT = "I look.\n```bash\nls\n```"


def rows_folder(folder, renderer, runs, settings=None, **policy):
    """runs: (run, verdicts) pairs; all of them unresolved."""
    to_render = []
    for run, verdicts in runs:
        labels = {n: StepLabel(step=n, verdict=verdict) for n, verdict in enumerate(verdicts)}
        to_render.append(RunToRender(run, {"srft": RunFacts(run.id, len(run.steps), False, labels)}))
    policies = {"srft": MaskPolicy(arm="srft", **policy)}
    write_rows(folder, to_render, renderer, policies, settings or RowSettings(), fingerprints={"srft": "f"})
    return RowTable.open(folder / "srft")


@pytest.fixture(scope="module")
def renderer(tokenizer_with):
    return Renderer(tokenizer_with(CHATML))


def row_of(ids, weights, steps, parts):
    return Row(
        "r",
        "t",
        "o",
        numpy.array(ids, dtype=numpy.int32),
        numpy.array(weights, dtype=numpy.float32),
        numpy.array(steps, dtype=numpy.int32),
        numpy.array(parts, dtype=numpy.uint8),
        "rendered",
        sum(weight > 0 for weight in weights),
        len(ids),
    )


def plain_row(ids):
    return row_of(ids, [1.0] * len(ids), [0] * len(ids), [Part.THOUGHT] * len(ids))


def test_kinds_of_a_row(tmp_path, renderer):
    run = make_run([ACT, "Wrong.", "Done."])
    (row,) = rows_folder(tmp_path, renderer, [(run, ["good", "mistake", "recover"])], recover=0.5)
    backend = renderer.tokenizer.backend_tokenizer
    found = list(pieces(row, backend))
    texts = {
        (kind, weight, ends): "".join(
            piece.text for piece in found if (piece.kind, piece.weight, piece.ends_turn) == (kind, weight, ends)
        )
        for kind, weight, ends in {(piece.kind, piece.weight, piece.ends_turn) for piece in found}
    }
    context = texts.pop(("context", 0.0, False))
    assert texts == {
        ("trained", 1.0, False): ACT,
        ("trained", 1.0, True): "<|im_end|>",
        ("masked", 0.0, False): "Wrong.",
        ("masked", 0.0, True): "<|im_end|>",
        ("trained", 0.5, False): "Done.",
        ("trained", 0.5, True): "<|im_end|>",
    }
    assert context.startswith("<|im_start|>system\nYou mend code.<|im_end|>\n")
    assert sum(piece.tokens for piece in found) == len(row.input_ids)
    (figure,) = figures([row], RowSettings())
    assert figure[:4] == (len(row.input_ids), figure.trained + figure.masked, row.trained_tokens, figure.masked)
    assert figure[4:] == ("rendered", (0, 2), None)


def test_a_character_of_several_tokens_is_printed_once_as_its_last_token(renderer):
    backend = renderer.tokenizer.backend_tokenizer
    ids = backend.encode("a你", add_special_tokens=False).ids
    assert len(ids) == 4  # the tokenizer has never seen it: a token a byte
    row = row_of(ids, [1, 1, 1, 0], [0, 0, 0, 1], [Part.THOUGHT] * 4)
    assert [(piece.text, piece.kind, piece.step, piece.tokens) for piece in pieces(row, backend)] == [
        ("a", "trained", 0, 1),
        ("你", "masked", 1, 3),
    ]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_pieces_are_the_decoded_row(renderer, data):
    backend = renderer.tokenizer.backend_tokenizer
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    encoded = texts.map(lambda text: backend.encode(text, add_special_tokens=False).ids)
    # Whole texts, and whatever a model may sample: bytes that are no character.
    any_ids = st.lists(st.integers(0, backend.get_vocab_size() - 1), max_size=12)
    ids = [number for part in data.draw(st.lists(encoded | any_ids, min_size=1, max_size=4)) for number in part]
    found = list(pieces(plain_row(ids), backend))
    assert "".join(piece.text for piece in found) == backend.decode(ids, skip_special_tokens=False)
    assert sum(piece.tokens for piece in found) == len(ids)


def test_bytes_that_are_no_character_do_not_take_the_rest_with_them(renderer):
    backend = renderer.tokenizer.backend_tokenizer
    broken = backend.encode("你", add_special_tokens=False).ids[:2]
    ids = broken + backend.encode(" bash", add_special_tokens=False).ids
    assert [piece.text for piece in pieces(plain_row(ids), backend)] == ["\ufffd", " ", "bash"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\u202eevil\u2066", "⟨U+202E⟩evil⟨U+2066⟩"),
        ("a\u200bb\ufeff", "a⟨U+200B⟩b⟨U+FEFF⟩"),
        ("\x9b2J", "⟨U+009B⟩2J"),
        ("one\r\ntwo\u2028\x85", "one␍\ntwo⟨U+2028⟩⟨U+0085⟩"),
        ("[bold]not markup[/bold] :smile:", "[bold]not markup[/bold] :smile:"),
        ("naïve 你好 👍 \t\n", "naïve 你好 👍 \t\n"),
    ],
)
def test_inert(text, shown):
    assert inert(text) == shown


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    left = set(inert(text)) - {"\t", "\n"}
    assert not {character for character in left if unicodedata.category(character)[0] == "C"}


def test_rows_of_a_run_and_why_they_split(tmp_path, tokenizer_with, renderer):
    other, run = make_run([ACT], id="other"), make_run(["<think>a</think>one", "two"], id="run")
    table = rows_folder(
        tmp_path / "split", Renderer(tokenizer_with(DROPS_THINKING)), [(other, ["good"]), (run, ["good", "good"])]
    )
    assert rows_of_run(table, "nobody") == []
    assert [row.run_id for row in rows_of_run(table, "other")] == ["other"]
    found = figures(rows_of_run(table, "run"), table.manifest.settings)
    assert [(one.steps, one.split) for one in found] == [((0, 0), None), ((1, 1), "history_rewritten")]

    slid = rows_folder(
        tmp_path / "slid",
        renderer,
        [(make_run([ACT] * 8, id="long"), ["good"] * 8)],
        RowSettings(max_tokens=200, overlong="slide"),
    )
    found = figures(rows_of_run(slid, "long"), slid.manifest.settings)
    assert len(found) > 1
    assert [one.split for one in found] == [None] + ["overlong"] * (len(found) - 1)
    assert [one.steps[0] for one in found[1:]] == [one.steps[1] + 1 for one in found[:-1]]
