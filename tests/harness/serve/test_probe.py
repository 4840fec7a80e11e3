"""The probe: it passes what is served, catches what is not, and says when it cannot tell."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from srft.agent.models.openai import OpenAIConfig
from srft.env.errors import InputError, SrftError
from srft.harness.serve import ServeConfig, start_server
from srft.harness.serve.local_server import LocalServer
from srft.harness.serve.memory import OutOfMemory, out_of_memory
from srft.harness.serve.probe import StaleWeights, expected_logprobs, probe, probe_tokens
from srft.harness.serve.weights import host_bytes, load_weights


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
            found = probe(server, expected_logprobs(other), base=expected_logprobs(base))
            assert (found.verdict, found.tokens) == ("served", len(probe_tokens(other)))
            assert found.moved == pytest.approx(1, abs=0.1)
            assert found.difference < found.tolerance
        else:
            with pytest.raises(StaleWeights, match=r"does not serve .*other: expected .* got .* 0% of the way to them"):
                probe(server, expected_logprobs(other), base=expected_logprobs(base))
            with pytest.raises(StaleWeights, match="start the server again with them"):
                probe(server, expected_logprobs(other))
        server.close()


@pytest.mark.slow
def test_a_short_training_is_told_from_its_base_even_in_bfloat16(smollm2, tmp_path):
    """The change is less than what bfloat16 rounds away of one token."""
    trained = nudged(smollm2, tmp_path / "trained", by=0.01)
    server = serve(smollm2, dtype="bfloat16")
    assert probe(server, expected_logprobs(smollm2)).verdict == "served"
    with pytest.raises(StaleWeights, match=r"got 0\.0.*% of the way to them"):
        probe(server, expected_logprobs(trained), base=expected_logprobs(smollm2))
    server.load(trained, name="second")
    found = probe(server, expected_logprobs(trained), base=expected_logprobs(smollm2))
    assert found.verdict == "served"
    assert found.moved == pytest.approx(1, abs=0.4)
    server.close()


def test_equal_to_both_is_undecided(base, tmp_path):
    server = serve(base, dtype="bfloat16")
    assert probe(server, expected_logprobs(base), base=expected_logprobs(base))[0] == "undecided"
    same = expected_logprobs(nudged(base, tmp_path / "same", by=1e-5))
    assert probe(server, same, base=expected_logprobs(base)).verdict == "undecided"
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


def test_what_is_expected_is_computed_on_the_cpu_without_a_server(base, adapter, monkeypatch):
    """A server may hold every GPU: whatever the machine has, the direct forward asks for none."""
    devices = []

    def load(folder, *, dtype, device):
        devices.append((dtype, device.type))
        return load_weights(folder, dtype=dtype, device=device)

    monkeypatch.setattr("srft.harness.serve.probe.load_weights", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    expected = expected_logprobs(base)
    assert devices == [(None, "cpu")]
    assert expected.token_ids == tuple(probe_tokens(base))
    assert (len(expected.logprobs), expected.dtype) == (len(expected.token_ids) - 1, "float32")
    assert expected_logprobs(adapter, expected.token_ids).token_ids == expected.token_ids
    assert expected_logprobs(adapter, expected.token_ids).logprobs != expected.logprobs


def test_weights_that_the_machine_cannot_hold_are_refused_before_they_are_loaded(base, monkeypatch):
    size = host_bytes(base)
    assert size == (base / "model.safetensors").stat().st_size
    monkeypatch.setattr("srft.harness.serve.weights.free_host_bytes", lambda: size - 1)
    with pytest.raises(OutOfMemory, match=r"needs 0\.0 GiB of memory, and 0\.0 GiB are free\. Free memory on this"):
        expected_logprobs(base)
    monkeypatch.setattr("srft.harness.serve.weights.free_host_bytes", lambda: size)
    assert expected_logprobs(base).logprobs


def test_the_base_of_an_adapter_counts_in_float32(adapter, base, monkeypatch):
    assert host_bytes(adapter) == host_bytes(base)
    monkeypatch.setattr("srft.harness.serve.weights._stored_width", lambda folder: 2)
    assert host_bytes(adapter) == 2 * host_bytes(base)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ..."),
        MemoryError(),
    ],
)
def test_out_of_memory_is_an_error_with_a_remedy_wherever_weights_are_loaded(base, monkeypatch, error):
    def load(*given, **settings):
        raise error

    for module in ("probe", "forward"):
        monkeypatch.setattr(f"srft.harness.serve.{module}.load_weights", load)
    for work in (lambda: expected_logprobs(base), lambda: serve(base)):
        with pytest.raises(SrftError, match=r"out of memory \(.*\)\. Free memory on this machine") as caught:
            work()
        assert isinstance(caught.value, OutOfMemory)
        assert "\n" not in str(caught.value)


def test_another_runtime_error_is_no_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), out_of_memory("x", do="y"):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
