"""The loop's servers: what is expected is known before they start, once for equal weights; workers ask together."""

import json
import shutil
from types import SimpleNamespace

import pytest

from srft.agent.models.openai import OpenAIConfig
from srft.harness.loop import served as module
from srft.harness.loop.rounds import _Round
from srft.harness.loop.served import ServedModels
from srft.harness.serve.server import ServeConfig
from tests.harness.serve.conftest import adapter, base, other  # noqa: F401 - fixtures

CONFIG = ServeConfig(kind="transformers", dtype="float32")
SAMPLING = OpenAIConfig(temperature=0, max_tokens=3)


@pytest.fixture
def events(monkeypatch):
    """What happened in which order: direct forwards, and starts of servers with their batch."""
    happened = []

    def note(name, function, said):
        def noted(*given, **settings):
            happened.append((name, said(*given, **settings)))
            return function(*given, **settings)

        monkeypatch.setattr(module, function.__name__, noted)

    note("forward", module.expected_logprobs, lambda weights, ids: str(weights).rpartition("/")[2])
    note("start", module.start_server, lambda weights, *, config, **_: config.batch)
    return happened


def serve(servers: ServedModels, weights, name: str, first):
    return servers.serve(str(weights), name=name, base=str(first), sampling=SAMPLING)


def test_what_is_expected_is_computed_before_the_server_starts_and_once(base, other, tmp_path, events):  # noqa: F811
    servers = ServedModels(CONFIG, logs=tmp_path / "logs", workers=24)
    serve(servers, base, "first", base)
    found = serve(servers, other, "second", base)
    assert found.figures["probe"]["verdict"] == "served"
    assert events == [("forward", "base"), ("start", 24), ("forward", "other")]
    servers.close()
    moved = tmp_path / "elsewhere"
    shutil.copytree(other, moved)
    later = ServedModels(ServeConfig(kind="transformers", dtype="float32", batch=3), logs=tmp_path / "logs", workers=24)
    serve(later, moved, "third", base)
    later.close()
    assert events[3:] == [("start", 3)]
    assert len(list((tmp_path / "logs").glob("probe-*.json"))) == 2


def test_a_file_that_is_no_expectation_is_made_again(base, tmp_path, events):  # noqa: F811
    servers = ServedModels(CONFIG, logs=tmp_path, workers=1)
    serve(servers, base, "first", base)
    servers.close()
    (path,) = tmp_path.glob("probe-*.json")
    kept = json.loads(path.read_text())
    path.write_text("{")
    again = ServedModels(CONFIG, logs=tmp_path, workers=1)
    serve(again, base, "first", base)
    again.close()
    assert json.loads(path.read_text()) == kept
    assert [name for name, _ in events].count("forward") == 2


class Recorded(_Round):
    """A round whose stages are only written down."""

    def __init__(self, held_out):
        self.did = []
        cells = [("srft", "srft", 0), ("srft.1", "srft", 1), ("all", "all", 0)]
        self.config = SimpleNamespace(arms=("srft", "all"), cells=lambda: cells)
        self.rounds = SimpleNamespace(
            sources=SimpleNamespace(held_out=held_out), evaluate=self._evaluate, unmeasured=[]
        )
        self.round = self.stages = None
        self.teacher = "demonstrator"

    def _collect(self, teacher):
        assert teacher == "demonstrator"

    def _critique(self):
        return ["critic"]

    def _rows(self, arm, critics):
        self.did.append(f"rows {arm}")
        return arm

    def _train(self, cell, arm, seed, rows):
        self.did.append(f"train {cell} on {rows}")
        return f"model/{cell}"

    def _evaluate(self, round_, stages, *, cell, model):
        self.did.append(f"evaluate {model}")
        return {}

    def _promote(self, models, evaluated):
        self.did.append(f"promote of {len(evaluated)}")


TRAINED = ["rows srft", "rows all", "train srft on srft", "train srft.1 on srft", "train all on all"]


def test_all_cells_are_trained_before_the_first_is_evaluated():
    measured, unmeasured = Recorded("tasks"), Recorded(None)
    measured.go()
    assert measured.did == [
        *TRAINED,
        *("evaluate model/srft", "evaluate model/srft.1", "evaluate model/all"),
        "promote of 3",
    ]
    unmeasured.go()
    assert unmeasured.did == TRAINED
    assert unmeasured.rounds.unmeasured == ["model/srft", "model/srft.1", "model/all"]
