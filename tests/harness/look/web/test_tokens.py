"""The token view: an arm's rows in pieces, or why there are none."""

import pytest
from fastapi.testclient import TestClient

from srft.harness.look.web.app import make_app
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Run
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.mask import MaskPolicy
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML


@pytest.fixture
def with_rows(run, tmp_path):
    byte_tokenizer(CHATML).save_pretrained(tmp_path / "tokenizer")
    with Run(run) as opened:
        config = RowsConfig(tokenizer=str(tmp_path / "tokenizer"), policy=MaskPolicy(recover=0.5), arms=("srft", "all"))
        make_rows(config, opened.round(0))
    return run


def get(run, address, **options):
    return TestClient(make_app(Viewer(run, **options)), base_url="http://127.0.0.1").get(address).text


def test_masked_and_trained_tokens(with_rows):
    page = get(with_rows, "/tokens/round-000/abc1?arm=srft")
    masked = page.partition('<span class="tok masked" title="masked, step 1">')[2].partition("</span>")[0]
    assert masked.replace("<b>", "").replace("</b>", "").replace("<i>", "").replace("</i>", "").strip() == (
        "Wrong.&lt;|im_end|&gt;"
    )
    assert '<a class="step-mark" id="step-2"' in page
    assert '<span class="tok masked" title' not in get(with_rows, "/tokens/round-000/abc1?arm=all")
    assert "has no rows of this run" in get(with_rows, "/tokens/round-000/ffff?arm=srft")
    assert "1 of 3 steps masked" in get(with_rows, "/run/round-000/abc1")  # the arm that rows were made of
    assert "7" in get(with_rows, "/")


def test_without_rows_or_their_tokenizer(with_rows, tmp_path):
    assert "rows were made of all, srft; make them" in get(with_rows, "/tokens/round-000/abc1?arm=random")
    (tmp_path / "tokenizer").rename(tmp_path / "moved")
    assert "give --tokenizer DIR" in get(with_rows, "/tokens/round-000/abc1?arm=srft")
    moved = get(with_rows, "/tokens/round-000/abc1?arm=srft", tokenizer=str(tmp_path / "moved"))
    assert "tok masked" in moved


def test_the_tokenizers_are_loaded_in_the_background(with_rows, tmp_path):
    """A warmed viewer opens no tokenizer for its pages: here there is none left to open."""
    viewer = Viewer(with_rows)
    viewer.warm().join()
    (tmp_path / "tokenizer").rename(tmp_path / "moved")
    answer = TestClient(make_app(viewer), base_url="http://127.0.0.1").get("/tokens/round-000/abc1?arm=srft")
    assert "tok masked" in answer.text
    cold = Viewer(with_rows)
    cold.warm().join()  # what cannot be loaded is told by the page that wants it
    assert "give --tokenizer DIR" in get(with_rows, "/tokens/round-000/abc1?arm=srft")
