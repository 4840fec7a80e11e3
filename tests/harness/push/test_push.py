"""`srft push`: what a run made comes to a Hub whole, private, once, with a card that says how it was made."""

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from srft.env.errors import InputError
from srft.harness.cli import app
from srft.harness.run.store import Run
from srft.harness.stages.rows import RowsConfig, make_rows
from tests.harness.look.test_show import ACT, critique
from tests.harness.push.hub_server import TOKEN, HubServer
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run

TRAINING = {
    "schema_version": 1,
    "fingerprint": "f",
    "model": "/home/someone/models/base",
    "rows": "/home/someone/runs/run/round-000/rows/srft",
    "arm": "srft",
    "recipe": {"learning_rate": 1e-4, "epochs": 2},
    "versions": {"torch": "2.13.0"},
    "task_ids": ["a__b-1", "a__b-2"],
    "repos": ["a/b"],
    "held_out_tasks": [],
    "figures": {"steps": 4, "loss": 0.25},
    "log": [],
}


@pytest.fixture
def hub(monkeypatch):
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a failed and a resolved episode, verdicts, rows and a model."""
    failed = make_run([ACT, "Wrong.", "Done."], id="failed", recorded_resolved=False)
    solved = make_run([ACT, "Done."], id="solved", attempt=1, recorded_resolved=True)
    tmp_path = tmp_path_factory.mktemp("made")
    byte_tokenizer(CHATML).save_pretrained(tmp_path / "base")
    with Run(tmp_path / "run") as run:
        round_ = run.round(0)
        for trajectory in (failed, solved):
            round_.trajectories.append(trajectory)
        round_.critiques.append(critique(failed, "judge", ["good", "mistake", "recover"]))
        make_rows(RowsConfig(tokenizer=str(tmp_path / "base"), arms=("srft",)), round_)
    model = tmp_path / "run" / "round-000" / "model" / "srft"
    (model / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (model / "checkpoints" / "checkpoint-1" / "model.safetensors").write_bytes(b"half done")
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "config.json").write_text("{}")
    (model / "training.json").write_text(json.dumps(TRAINING))
    return tmp_path / "run"


@pytest.fixture
def path(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


ALL = ("--rows", "me/rows", "--model", "me/model", "--trajectories", "me/runs")


def card(files):
    """(front matter, text) of a repository's card."""
    _, head, text = files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(head), text


def test_all_three_arrive_private_with_their_cards(srft, hub, path, tmp_path):
    done = srft("push", "--run", path, *ALL, "--license", "apache-2.0", "--base", "HuggingFaceTB/base", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["url"] for one in json.loads(done.stdout)["sent"]] == [
        f"{hub.url}/datasets/me/rows", f"{hub.url}/me/model", f"{hub.url}/datasets/me/runs"
    ]  # fmt: skip
    assert hub.repositories == {"datasets/me/rows": True, "models/me/model": True, "datasets/me/runs": True}
    assert hub.keys == {f"Bearer {TOKEN}"}

    rows = hub.files("datasets/me/rows")
    assert sorted(rows) == ["README.md", "data/train-00000-of-00001.parquet", "rows.json"]
    (tmp_path / "rows.parquet").write_bytes(rows["data/train-00000-of-00001.parquet"])
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert table.column("run_id").to_pylist() == ["failed", "solved"]
    head, text = card(rows)
    assert (head["license"], head["configs"]) == (
        "apache-2.0",
        [{"config_name": "default", "data_files": "data/*.parquet"}],
    )
    for line in ("| runs | 2 |", "| steps masked | 1 |", "| critic | judge |", "| arm | `srft` |"):
        assert line in text
    assert "    srft rows --run runs/run --tokenizer base --arm srft\n" in text

    model = hub.files("models/me/model")
    assert sorted(model) == ["README.md", "config.json", "model.safetensors", "training.json"]
    assert model["model.safetensors"] == b"weights"
    head, text = card(model)
    assert (head["base_model"], head["library_name"]) == ("HuggingFaceTB/base", "transformers")
    for line in ("| critic | `judge` |", "| learning rate | 0.0001 |", "| loss | 0.2500 |", "| tasks trained on | 2 |"):
        assert line in text
    assert "    srft train --run runs/run --arm srft --model HuggingFaceTB/base\n" in text

    runs = hub.files("datasets/me/runs")
    assert sorted(runs) == ["README.md", "labels.jsonl", "trajectories.jsonl"]
    assert runs["trajectories.jsonl"] == (path / "round-000" / "trajectories.jsonl").read_bytes()
    head, text = card(runs)
    assert [one["config_name"] for one in head["configs"]] == ["trajectories", "labels"]
    for line in ("| episodes | 2 |", "| resolved | 1 |", "| judged by judge | 1 |"):
        assert line in text
    assert "| these runs | 50.0 % resolved of 1 task (95 % interval" in text
    everything = b"".join(content for name in hub.repositories for content in hub.files(name).values())
    assert b"/home/someone" not in everything
    assert str(tmp_path).encode() not in everything
    assert TOKEN not in done.stdout + done.stderr


def test_a_plan_writes_the_folders_and_asks_nobody(srft, hub, path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    done = srft("push", "--run", path, *ALL, "--plan")
    assert done.returncode == 0, done.stderr
    assert "me/model (model, private): 4 files, " in done.stdout
    assert f"from {path}/push/model" in done.stdout
    assert "      7 B  model.safetensors" in done.stdout
    assert (path / "push" / "model" / "model.safetensors").read_bytes() == b"weights"
    assert (hub.repositories, hub.keys) == ({}, set())
    assert json.loads(srft("push", "--run", path, "--model", "me/m", "--plan", "--json").stdout)["would_send"][0][
        "files"
    ].keys() == {"README.md", "config.json", "model.safetensors", "training.json"}


def test_what_was_refused_half_way_is_not_sent_twice(srft, hub, path):
    hub.refuse = "commit"
    failed = srft("push", "--run", path, "--model", "me/model")
    assert failed.returncode == 1
    assert "me/model: the Hub refuses (no commit today); set HF_TOKEN to a key that may write there" in failed.stderr
    assert len(hub.uploads) == 1
    hub.refuse = None
    done = srft("push", "--run", path, "--model", "me/model")
    assert done.returncode == 0, done.stderr
    assert len(hub.uploads) == 1
    assert hub.files("models/me/model")["model.safetensors"] == b"weights"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to push; give --rows, --model or --trajectories, each with OWNER/NAME"),
        (("--model", "model"), "model: not a repository of the Hub; give OWNER/NAME"),
        (("--model", "me/a b"), "me/a b: not a repository of the Hub ("),
        (("--rows", "me/a", "--trajectories", "me/a"), "me/a: is named twice"),
        (
            ("--model", "me/a", "--arm", "all"),
            "no trained model all in run/round-000/model; there are srft; run srft train",
        ),
        (("--rows", "me/a", "--arm", "all"), "no token rows of the arm all in run/round-000 yet; run srft rows"),
        (("--rows", "me/a", "--round", "1"), "run: no round 1; check --round"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(path, words, said, monkeypatch):
    monkeypatch.chdir(path.parent)
    refused = CliRunner().invoke(app, ["push", "--run", "run", *words]).exception
    assert isinstance(refused, InputError)
    assert said in str(refused)
    assert not (path / "push").exists()


def test_what_all_could_see_is_not_sent_unasked(srft, hub, path):
    hub.repositories["models/me/public"] = False
    refused = srft("push", "--run", path, "--model", "me/public")
    assert (refused.returncode, hub.uploads) == (2, [])
    assert "srft: me/public: is public on the Hub; give --public to push there, or another name\n" in refused.stderr


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"HF_TOKEN": None}, 2, "no key for the Hub; set HF_TOKEN"),
        ({"HF_HUB_OFFLINE": "1"}, 2, "HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, 1, "me/a: cannot be sent ("),
    ],
)
def test_a_hub_that_cannot_be_asked(srft, hub, path, tmp_path, changes, code, said, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    done = srft("push", "--run", path, "--model", "me/a")
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stderr
