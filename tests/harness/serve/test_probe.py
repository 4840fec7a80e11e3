"""The probe: it passes what is served, catches what is not, and says when it cannot tell."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from srft.agent.models.openai import OpenAIConfig
from srft.env.errors import InputError
from srft.harness.serve import ServeConfig, start_server
from srft.harness.serve.local_server import LocalServer
from srft.harness.serve.probe import StaleWeights, probe, probe_tokens


class SkipsLoading(LocalServer):
    """A server that says it has loaded, and serves the old weights."""

    def load(self, weights, *, name):
        self.model = self.model_for(OpenAIConfig())


def serve(folder: Path, kind: type[LocalServer] = LocalServer, **settings) -> LocalServer:
    config = ServeConfig(kind="transformers", **settings)
    return kind(folder, name="first", config=config, sampling=OpenAIConfig())


def nudged(folder: Path, out: Path, *, by: float, parts: tuple[str, ...] = ("mlp",)) -> Path:
    """The model as a short training leaves it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in parts):
                weight.add_(torch.randn_like(weight) * weight.std() * by)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_new_weights_pass_and_a_skipped_load_is_caught(base, other, dtype):
    for kind in (LocalServer, SkipsLoading):
        server = serve(base, kind, dtype=dtype)
        server.load(other, name="second")
        if kind is LocalServer:
            found = probe(server, other, base=base)
            assert (found.verdict, found.tokens) == ("served", len(probe_tokens(other)))
            assert found.moved == pytest.approx(1, abs=0.1)
            assert found.difference < found.tolerance
        else:
            with pytest.raises(StaleWeights, match=r"does not serve .*other: expected .* got .* 0% of the way to them"):
                probe(server, other, base=base)
            with pytest.raises(StaleWeights, match="start the server again with them"):
                probe(server, other)
        server.close()


@pytest.mark.slow
def test_a_short_training_is_told_from_its_base_even_in_bfloat16(smollm2, tmp_path):
    """The change is less than what bfloat16 rounds away of one token."""
    trained = nudged(smollm2, tmp_path / "trained", by=0.01)
    server = serve(smollm2, dtype="bfloat16")
    assert probe(server, smollm2).verdict == "served"
    with pytest.raises(StaleWeights, match=r"got 0\.0.*% of the way to them"):
        probe(server, trained, base=smollm2)
    server.load(trained, name="second")
    found = probe(server, trained, base=smollm2)
    assert found.verdict == "served"
    assert found.moved == pytest.approx(1, abs=0.4)
    server.close()


def test_equal_to_both_is_undecided(base, tmp_path):
    server = serve(base, dtype="bfloat16")
    assert probe(server, base, base=base)[0] == "undecided"
    assert probe(server, nudged(base, tmp_path / "same", by=1e-5), base=base).verdict == "undecided"
    server.close()


def test_a_name_is_used_once(base, other):
    server = start_server(base, name="a", config=ServeConfig(kind="transformers"), log=Path("unused.log"))
    with pytest.raises(InputError, match=r"served name 'a': used before"):
        server.load(other, name="a")
    server.load(other, name="b")
    assert (server.model.name, server.kind, server.url) == ("b", "transformers", None)
    server.close()


def test_no_model_there(tmp_path):
    with pytest.raises(InputError, match=r"no model there; expected a folder with config\.json"):
        start_server(tmp_path, name="a", log=tmp_path / "log")
