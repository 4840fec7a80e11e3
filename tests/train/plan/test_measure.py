"""A step, measured, beside its plan."""

import os

import msgspec
import pytest

from srft.train.fit.recipe import Recipe
from srft.train.plan.measure import measure_step
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.train.conftest import CHATML, make_run
from tests.train.training import RECIPE, tiny_model


def test_two_steps_of_the_longest_pack(tmp_path, tokenizer_with):
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
    base = tiny_model(tmp_path / "base", tokenizer_with(CHATML), **sizes)
    runs = []
    for number in range(4):
        run = make_run(["look " * (50 + 200 * number), "done"], id=f"run-{number}", task_id=f"a__b-{number}")
        runs.append(RunToRender(run, {"all": RunFacts(run.id, 2, True, {})}))
    renderer = Renderer.load(base)
    write_rows(tmp_path, runs, renderer, {"all": MaskPolicy(arm="all")}, RowSettings(), fingerprints={"all": "f"})
    table = RowTable.open(tmp_path / "all")
    recipe = msgspec.convert(RECIPE | {"pack_tokens": None, "packs_per_step": 2, "held_out": 0.5}, Recipe)
    before = sorted(os.listdir(tmp_path))
    measured = measure_step(table, recipe, model=str(base))
    longest = int(table.used_tokens_N.max()) - 1
    assert (measured.longest_pack, measured.tokens) == (longest, 2 * longest)
    assert measured.tokens_per_s == pytest.approx(measured.tokens / measured.step_s)
    assert (measured.attention, measured.apart, measured.mfu) == ("srft_documents", False, None)
    assert 0 < measured.peak_bytes < 5 * measured.planned_bytes  # memory that this process had before is not counted
    assert sorted(os.listdir(tmp_path)) == before
