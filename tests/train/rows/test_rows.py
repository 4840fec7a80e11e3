"""Rows on disk: every drop counted, arms from one rendering, mapped back as they were written."""

from pathlib import Path

import msgspec
import numpy
import pytest
from datasets import Dataset

from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError, StorageError
from srft.train.rows.mask import MaskPolicy, Part, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.train.conftest import CHATML, DROPS_THINKING, TOOLS, make_run

ACT = "I look.\n```bash\nls\n```"


def run_with(replies, *, resolved=True, mistakes=(), **changes):
    run = make_run(replies, **changes)
    labels = {n: StepLabel(step=n, verdict="mistake" if n in mistakes else "good") for n in range(len(replies))}
    return run, RunFacts(run.id, len(replies), resolved, labels)


@pytest.fixture
def renderer(tokenizer_with):
    return Renderer(tokenizer_with(CHATML))


def write(folder: Path, renderer, runs, arms=("srft",), settings=None, **policy):
    policies = {arm: MaskPolicy(arm=arm, **policy) for arm in arms}
    to_render = [RunToRender(run, dict.fromkeys(arms, facts)) for run, facts in runs]
    return write_rows(
        folder, to_render, renderer, policies, settings or RowSettings(), fingerprints=dict.fromkeys(arms, "f")
    )


def test_arms_of_the_same_runs(tmp_path, renderer):
    runs = [
        run_with([ACT, "Done."], resolved=True, attempt=0, id="a"),
        run_with([ACT, ACT, "Over."], resolved=False, mistakes=[1], id="b"),
    ]
    made = write(tmp_path, renderer, runs, arms=("all", "resolved", "srft", "unresolved_masked"))
    assert {arm: (m.runs, m.runs_used, m.rows, m.steps, m.steps_masked) for arm, m in made.items()} == {
        "all": (2, 2, 2, 5, 0),
        "resolved": (2, 1, 1, 2, 0),
        "srft": (2, 2, 2, 5, 1),
        "unresolved_masked": (2, 1, 1, 3, 1),
    }
    assert made["resolved"].left_out == {"unresolved": 1}
    for arm, manifest in made.items():
        table = RowTable.open(tmp_path / arm)
        assert table.manifest == manifest
        assert sum(row.trained_tokens for row in table) == manifest.trained_tokens
        assert sum(float(row.weights.sum()) for row in table) == manifest.weight
        assert table.used_tokens_N.tolist() == [int(numpy.flatnonzero(row.weights)[-1]) + 1 for row in table]
    masked = RowTable.open(tmp_path / "srft")[1]
    assert not masked.weights[masked.step_index == 1].any()
    assert masked.weights[masked.step_index == 2].all()


def test_the_trained_tokens_read_as_the_replies(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT, "Wrong.", "Done."], resolved=False, mistakes=[1])])
    (row,) = RowTable.open(tmp_path / "srft")
    assert renderer.tokenizer.decode(row.input_ids[row.weights > 0]) == ACT + "<|im_end|>" + "Done.<|im_end|>"


def test_other_programs_read_the_file(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT, "Done."])])
    row = Dataset.from_file(str(tmp_path / "srft" / "rows.arrow"))[0]
    assert row["input_ids"] == RowTable.open(tmp_path / "srft")[0].input_ids.tolist()


def test_drops_are_counted(tmp_path, renderer, tokenizer_with):
    same = run_with([ACT, "Done."], id="same")
    runs = [
        same,
        (msgspec.structs.replace(same[0], id="again"), same[1]),
        run_with(["Bad."], resolved=False, mistakes=[0]),
        run_with([ACT], resolved=None),
        run_with([ACT * 40, "Done."]),
        (msgspec.structs.replace(same[0], steps=same[0].steps[:1], id="torn"), same[1]._replace(steps=1)),
    ]
    manifest = write(tmp_path, renderer, runs, settings=RowSettings(max_tokens=120, overlong="drop"))["srft"]
    assert manifest.rows == 1
    assert manifest.dropped == {"duplicate": 1, "nothing_trained": 1, "overlong": 1}
    assert manifest.left_out == {
        "outcome_unknown": 1,
        "not readable: torn: 2 assistant messages and 1 steps; expected one a step": 1,
    }
    assert (manifest.runs, manifest.runs_used) == (6, 1)


def test_history_that_a_template_rewrites_is_split_or_refused(tmp_path, tokenizer_with):
    renderer = Renderer(tokenizer_with(DROPS_THINKING))
    runs = [run_with(["<think>a</think>one", "two"])]
    split = write(tmp_path, renderer, runs)["srft"]
    assert (split.rows, split.remarks) == (2, {"history_rewritten": 1, "tokens_repeated": 81})
    assert split.keeps_history is None
    drops = TOOLS.replace(
        "{% if m.reasoning_content %}", "{% if m.reasoning_content and (loop.last or keep_thinking) %}"
    )
    run, facts = run_with(["one", "two"])
    steps = tuple(msgspec.structs.replace(step, reasoning="Hm.") for step in run.steps)
    thought = (msgspec.structs.replace(run, steps=steps), facts)
    for template, setting in {
        drops: "template.keep_thinking=true (when serving too)",
        drops.replace("or keep_thinking", ""): "thinking=without",
    }.items():
        rows = write(tmp_path, Renderer(tokenizer_with(template)), [thought])["srft"]
        assert (rows.remarks["history_rewritten"], rows.keeps_history) == (1, setting)
    refused = write(tmp_path, renderer, runs, settings=RowSettings(rewritten="refuse"))["srft"]
    assert (refused.rows, refused.left_out) == (0, {"history_rewritten": 1})


def test_sliding_counts_what_is_written_once(tmp_path, renderer):
    runs = [run_with([ACT] * 8)]
    whole = write(tmp_path / "whole", renderer, runs)["srft"]
    slid = write(tmp_path / "slid", renderer, runs, settings=RowSettings(max_tokens=200, overlong="slide"))["srft"]
    assert slid.rows > 1
    assert (slid.written_tokens, slid.trained_tokens, slid.steps) == (
        whole.written_tokens,
        whole.trained_tokens,
        whole.steps,
    )


def test_a_folder_without_a_manifest_is_no_rows(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT])])
    (tmp_path / "srft" / "rows.json").unlink()
    with pytest.raises(InputError, match="make them with `srft rows`"):
        RowTable.open(tmp_path / "srft")


def test_places_in_a_table(tmp_path, renderer):
    runs = [run_with([ACT] * (n + 1), id=str(n)) for n in range(5)]
    write(tmp_path, renderer, runs)
    table = RowTable.open(tmp_path / "srft")
    assert [row.run_id for row in table] == ["0", "1", "2", "3", "4"]
    assert (table[-1].run_id, [row.run_id for row in table[1:3]]) == ("4", ["1", "2"])
    with pytest.raises(IndexError):
        table[5]
    assert table[0].input_ids.dtype == numpy.int32
    assert (table[-5].run_id, table[0].run_id) == ("0", "0")
    with pytest.raises(IndexError):
        table[-6]
    assert table.task_ids == ["a__b-1"] * 5


def test_nothing_makes_a_manifest_of_zeros(tmp_path, renderer):
    manifest = msgspec.to_builtins(write(tmp_path, renderer, [])["srft"])
    assert manifest == {
        "schema_version": 1,
        "keeps_history": None,
        "form": None,
        "arm": "srft",
        "fingerprint": "f",
        "tokenizer": "",
        "vocabulary": renderer.vocabulary,
        "policy": msgspec.to_builtins(MaskPolicy()),
        "settings": {
            "max_tokens": 32768,
            "overlong": "cut",
            "source": "auto",
            "rewritten": "split",
            "calls": None,
            "tools": "refuse",
            "per_task": None,
        },
        **dict.fromkeys(("runs", "runs_used", "rows", "tokens", "written_tokens", "trained_tokens"), 0),
        **dict.fromkeys(("weight", "steps", "steps_masked", "longest_row"), 0),
        **{name: {} for name in ("left_out", "dropped", "remarks", "mask_sources")},
        **{name: [] for name in ("critics", "task_ids", "repos")},
    }
    assert (len(RowTable.open(tmp_path / "srft")), RowTable.open(tmp_path / "srft").task_ids) == (0, [])


def test_the_manifest_counts_what_is_in_the_rows(tmp_path, renderer):
    runs = [
        run_with([ACT, ACT], id="long", task_id="z__z-1", repo="z/z"),
        run_with(["Wrong.", "Done."], resolved=False, mistakes=[0], id="b"),
        run_with(["One."], id="c"),
    ]
    policies = {"srft": MaskPolicy(good=0.1)}
    to_render = [RunToRender(run, {"srft": facts}) for run, facts in runs]
    fingerprints = {"srft": "f"}
    made = write_rows(
        tmp_path, to_render, renderer, policies, RowSettings(), fingerprints=fingerprints, critics=["b", "a"]
    )["srft"]
    rows = list(RowTable.open(tmp_path / "srft"))
    assert [len(row.input_ids) for row in rows] == sorted((len(row.input_ids) for row in rows), reverse=True)
    assert made.tokens == sum(len(row.input_ids) for row in rows)
    assert made.longest_row == len(rows[0].input_ids)
    assert made.written_tokens == sum(int((row.part != Part.CONTEXT).sum()) for row in rows)
    assert made.trained_tokens == sum(int((row.weights > 0).sum()) for row in rows) < made.written_tokens
    assert made.weight == sum(float(row.weights.astype(numpy.float64).sum()) for row in rows)
    assert (made.mask_sources, made.steps, made.steps_masked) == ({"rendered": 3}, 5, 1)
    assert (made.task_ids, made.repos, made.critics) == (["a__b-1", "z__z-1"], ["a/b", "z/z"], ["b", "a"])


def test_the_masked_share(tmp_path, renderer):
    manifest = write(tmp_path, renderer, [])["srft"]
    assert manifest.masked_share is None, "nothing is written"
    manifest.written_tokens, manifest.trained_tokens = 10, 4
    assert manifest.masked_share == 0.6


def test_steps_behind_the_cut_are_counted(tmp_path, renderer):
    made = write(tmp_path, renderer, [run_with([ACT] * 8)], settings=RowSettings(max_tokens=200))["srft"]
    assert made.steps < 8
    assert made.remarks == {"steps_cut": 8 - made.steps}


REFUSES = CHATML.replace(
    "{% for",
    "{% if messages | selectattr('content', 'equalto', 'No.') | list %}{{ raise_exception('no') }}{% endif %}{% for",
    1,
)


def test_a_run_that_cannot_be_rendered_costs_itself_alone(tmp_path, tokenizer_with):
    runs = [run_with([ACT, "Done."], id="good"), run_with([ACT, "Done."], observations=["No."], id="bad")]
    made = write(tmp_path, Renderer(tokenizer_with(REFUSES)), runs)["srft"]
    (reason,) = made.left_out
    assert reason.startswith("not rendered: ")
    assert (made.rows, RowTable.open(tmp_path / "srft")[0].run_id) == (1, "good")


def sampled(renderer, run):
    """The run with the ids that a server of this tokenizer sampled."""
    steps = []
    for step, place in zip(run.steps, (2, 4), strict=True):
        messages = list(run.messages[:place])
        prompt = renderer.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        ids = renderer.tokenizer(step.content + "<|im_end|>").input_ids
        steps.append(
            msgspec.structs.replace(step, prompt_token_ids=tuple(prompt), prompt_shared=0, token_ids=tuple(ids))
        )
    return msgspec.structs.replace(run, steps=tuple(steps))


@pytest.mark.parametrize("beside", [0, 1])
def test_sampled_ids_are_taken_unless_said_otherwise(tmp_path, renderer, beside):
    run, facts = run_with([ACT, "Done."])
    torn, about = run_with([ACT, "Done."], id="torn")  # breaks its batch up
    torn = msgspec.structs.replace(torn, steps=torn.steps[:1])
    runs = [(sampled(renderer, run), facts), *[(torn, about)] * beside]
    assert write(tmp_path, renderer, runs)["srft"].mask_sources == {"sampled": 1}
    rendered = write(tmp_path, renderer, runs, settings=RowSettings(source="rendered"))["srft"]
    assert rendered.mask_sources == {"rendered": 1}


def test_a_run_without_steps_is_left_out(tmp_path, renderer):
    runs = [run_with([], id="none", stop_reason="cancelled"), run_with(["Done."], id="one")]
    made = write(tmp_path, renderer, runs)["srft"]
    assert (made.left_out, made.rows) == ({"no_steps": 1}, 1)


def test_rows_count_as_unfinished_while_they_are_made(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT])])
    seen = []

    def runs():
        seen.append((tmp_path / "srft" / "rows.json").exists())
        yield RunToRender((made := run_with(["Done."]))[0], {"srft": made[1]})

    write_rows(tmp_path, runs(), renderer, {"srft": MaskPolicy()}, RowSettings(), fingerprints={"srft": "g"})
    assert seen == [False]
    assert RowTable.open(tmp_path / "srft").manifest.fingerprint == "g"


def test_the_file_is_closed_properly(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT])])
    assert (tmp_path / "srft" / "rows.arrow").read_bytes().endswith(b"\xff\xff\xff\xff\0\0\0\0"), "Arrow's end mark"


def test_a_full_disk_is_said(tmp_path, renderer):
    (tmp_path / "srft").mkdir()
    (tmp_path / "srft" / "rows.arrow").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"cannot be written .*No space left on device"):
        write(tmp_path, renderer, [run_with([ACT])])


def test_a_file_that_cannot_be_made_is_said(tmp_path, renderer):
    (tmp_path / "srft" / "rows.arrow").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot be written .*rows.arrow"):
        write(tmp_path, renderer, [run_with([ACT])])


@pytest.mark.parametrize("name", ["rows.json", "rows.arrow"])
def test_a_damaged_folder_is_said(tmp_path, renderer, name):
    write(tmp_path, renderer, [run_with([ACT])])
    (tmp_path / "srft" / name).write_bytes(b"not what it was")
    with pytest.raises(InputError, match="not readable rows"):
        RowTable.open(tmp_path / "srft")


@pytest.mark.parametrize(
    "given", [{"max_tokens": 0}, {"overlong": "no"}, {"source": "no"}, {"rewritten": "no"}, {"a": 1}]
)
def test_settings_that_may_not_be(given):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, RowSettings)


def test_settings_are_a_value():
    with pytest.raises(AttributeError):
        RowSettings().max_tokens = 1
    with pytest.raises(TypeError):
        RowSettings(1)
    assert msgspec.convert({"max_tokens": 1}, RowSettings) == RowSettings(max_tokens=1)
