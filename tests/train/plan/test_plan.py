"""Plans: what is counted equals a real model, what is reckoned equals the formulas worked by hand."""

import math

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM

from srft.env.errors import InputError
from srft.harness.loop.plan_table import plan_table
from srft.harness.stages.train import load_recipe
from srft.train.fit.base import with_adapter
from srft.train.fit.recipe import Assumptions, Lora, Recipe
from srft.train.fit.schedule import Schedule
from srft.train.plan.architecture import measure, read_architecture
from srft.train.plan.footprint import Work, flops_of, memory_of
from srft.train.plan.machine import Machine, read_machine
from srft.train.plan.plan import plan
from srft.train.plan.storage import storage_of
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.train.conftest import CHATML, make_run
from tests.train.training import tiny_model

MACHINE = Machine(name="test", memory_bytes=1 << 30, flops_per_s=1e9, reached_share=0.5, basis="by hand")
TINY = {
    "type": "llama",
    "vocab_size": 100,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": False,
}
LAYER = 8 * 8 * 2 + 8 * 4 * 2 + 8 * 16 * 3
WORK = Work(
    rows=2, held_out_rows=0, packs=2, steps=1, tokens=20, trained_tokens=5, squares=200.0, longest_pack=10
)  # two documents of ten tokens


def tiny_recipe(**changes) -> Recipe:
    return msgspec.convert({"plan": {"model": TINY}} | changes, Recipe)


def shape_of(recipe: Recipe):
    return measure(read_architecture(recipe, None)[0], recipe)


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer_with):
    """tied -> a folder with a random Llama."""
    folder = tmp_path_factory.mktemp("plan")
    return {tied: tiny_model(folder / str(tied), tokenizer_with(CHATML), tied=tied) for tied in (True, False)}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, Lora(rank=4), Lora(rank=2, modules=("q_proj", "down_proj"))])
def test_what_is_counted_equals_a_real_model_that_made_a_step(base, tied, weights, lora):
    recipe = Recipe(weights=weights, lora=lora)
    planned = plan(recipe, model=str(base[tied]), table=None, gpus=1, machine=MACHINE)
    # what is trained is held in float32
    model = AutoModelForCausalLM.from_pretrained(base[tied], dtype=getattr(torch, weights if lora else "float32"))
    model = model if lora is None else with_adapter(model, lora)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    model(torch.arange(1, 9)[None], labels=torch.arange(1, 9)[None]).loss.backward()
    optimizer.step()

    def size(tensors) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    assert planned.parameters == sum(weight.numel() for weight in model.parameters())
    assert planned.trained_parameters == sum(weight.numel() for weight in trained)
    assert planned.memory.weights_bytes == size(model.parameters())
    assert planned.memory.gradients_bytes == size(weight.grad for weight in trained)
    assert planned.memory.optimizer_bytes == size(
        value for state in optimizer.state.values() for value in state.values()
    )


def test_the_published_sizes_of_the_recipes_models_without_a_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sizes = {
        "smollm2-135m-cpu": 134_515_008,
        "qwen2.5-coder-7b-lora-1gpu": 7_615_616_512,
        "qwen2.5-coder-32b-full-8gpu": 32_763_876_352,
    }
    for name, parameters in sizes.items():
        recipe = msgspec.structs.replace(load_recipe(name), lora=None)
        assert plan(recipe, model=None, table=None, machine=MACHINE).parameters == parameters


def test_operations_of_full_training():
    """6N a token, causal attention three times (forward, and twice that backward), the head on trained tokens."""
    recipe = tiny_recipe()
    layers, attention, head = 6 * 2 * LAYER * 20, 3 * (2 * 2 * 8 * 200), 6 * 800 * 5
    assert flops_of(recipe, shape_of(recipe), WORK) == layers + attention + head
    again = tiny_recipe(gradient_checkpointing=True)
    more = 2 * 2 * LAYER * 20 + 2 * 2 * 8 * 200
    assert flops_of(again, shape_of(again), WORK) == layers + attention + head + more


def test_operations_of_adapters():
    """Frozen matrices need no gradients of their own: 4N; adapters 6N."""
    recipe = tiny_recipe(lora={"rank": 2})
    adapters = 2 * 2 * ((8 + 8) * 2 + (8 + 4) * 2 + (8 + 16) * 3)
    shape = shape_of(recipe)
    assert shape.adapters == shape.trained == adapters
    expected = 4 * 2 * LAYER * 20 + 6 * adapters * 20 + 3 * (2 * 2 * 8 * 200) + 4 * 800 * 5
    assert flops_of(recipe, shape, WORK) == expected


def test_activations_by_hand():
    """float32 all through: norms 2 * 8h, inputs 2 * 4h, attention 4 * (3q + 2k) and 4 a head, feed-forward 16f."""
    recipe = tiny_recipe(compute="float32")
    layer = 16 * 8 + 8 * 8 + 4 * (3 * 8 + 2 * 4) + 4 * 2 + 16 * 16
    last = 12 * 8
    memory = memory_of(recipe, shape_of(recipe), WORK, gpus=1)
    assert memory.activations_bytes == memory.activations_kept_bytes == 10 * (2 * layer + last)
    assert memory.activations_checkpointed_bytes == 10 * (2 * 4 * 8 + layer + last)
    assert memory.copies_bytes == memory.communication_bytes == 0


def test_the_peak_without_accumulation_is_the_larger_of_its_two_ends():
    step = tiny_recipe(compute="float32", packs_per_step=1)
    shape = shape_of(step)
    one = memory_of(step, shape, WORK, gpus=1)
    more = memory_of(tiny_recipe(compute="float32", packs_per_step=2), shape, WORK, gpus=1)
    always = one.weights_bytes + one.optimizer_bytes
    assert more.peak_bytes == always + one.gradients_bytes + one.activations_bytes + one.head_bytes
    assert one.peak_bytes < more.peak_bytes


def test_sharding_divides_float32_masters_among_the_processes():
    recipe = tiny_recipe(weights="bfloat16", fsdp=True)
    shape = shape_of(recipe)
    memory = memory_of(recipe, shape, WORK, gpus=8)
    assert memory.weights_bytes == memory.gradients_bytes == shape.parameters * 4 // 8
    assert memory.optimizer_bytes == shape.parameters * 8 // 8 + 4 * shape.trained_tensors
    assert memory.communication_bytes == 2 * (2 * LAYER + 800) + LAYER * 6
    copied = memory_of(tiny_recipe(weights="bfloat16", fsdp=True, replicas=2), shape, WORK, gpus=16)
    assert copied.weights_bytes == memory.weights_bytes


def test_accumulated_gradients_stay_sharded():
    recipe = tiny_recipe(weights="bfloat16", fsdp=True, packs_per_step=8)
    memory = memory_of(recipe, shape_of(recipe), WORK, gpus=4)
    assert memory.gradients_bytes == PARAMETERS
    assert memory.weights_bytes == PARAMETERS


# 100 x 8 of the embedding, as many of the head, two layers with two norms each, the last norm.
PARAMETERS = 800 + 800 + 2 * (LAYER + 16) + 8
ADAPTERS = 2 * 4 * ((8 + 8) + (8 + 4) + (8 + 4) + (8 + 8) + 3 * (8 + 16))


def stored(recipe: Recipe, *, gpus: int, on_gpu: bool = True, steps: int = 7):
    shape, work = shape_of(recipe), msgspec.structs.replace(WORK, steps=steps)
    return storage_of(recipe, shape, work, memory_of(recipe, shape, work, gpus=gpus), gpus=gpus, on_gpu=on_gpu)


def test_disk_and_host_memory_of_a_sharded_training_by_hand():
    """2,792 weights, trained in float32 and saved in bfloat16; a checkpoint has them once, and two states of each."""
    assert PARAMETERS == 2792
    found = stored(tiny_recipe(weights="bfloat16", fsdp=True, save_every=2, checkpoints=2), gpus=2)
    assert (found.model_bytes, found.checkpoint_bytes) == (2 * 2792, 12 * 2792)
    assert (found.checkpoints, found.disk_bytes) == (3, 3 * 12 * 2792)
    assert (found.host_bytes, found.nodes) == (4 * 2792, 1)
    assert "the first process alone loads the model" in found.origins[1]
    wide = stored(tiny_recipe(weights="bfloat16", fsdp=True, packs_per_step=16), gpus=16)
    assert (wide.host_bytes, wide.nodes) == (4 * 2792, 2)
    assert any("torchrun --nnodes 2 --nproc-per-node 8" in line for line in wide.origins)
    plain = stored(tiny_recipe(weights="bfloat16"), gpus=8)
    assert plain.host_bytes == 8 * 4 * 2792
    assert "each of 8 processes of a machine loads the whole model" in plain.origins[1]


def test_processes_that_share_sequences_hold_a_part_of_the_tokens():
    """Ten tokens among four processes: three for each."""
    recipe = tiny_recipe(sequence_parallel=4, activation_offload=True, gradient_checkpointing=True, packs_per_step=2)
    alone = msgspec.structs.replace(recipe, sequence_parallel=1)
    three = msgspec.structs.replace(WORK, longest_pack=3)
    shared, short = (
        memory_of(*of, gpus=8) for of in ((recipe, shape_of(recipe), WORK), (alone, shape_of(alone), three))
    )
    assert shared.activations_bytes == short.activations_bytes
    assert shared.gradients_bytes == short.gradients_bytes
    found = storage_of(
        recipe, shape_of(recipe), msgspec.structs.replace(WORK, longest_pack=40_000), shared, gpus=8, on_gpu=True
    )
    assert found.host_bytes == 8 * 10_000 * 2 * 4 * 8
    odd = plan(recipe, model=None, table=None, gpus=6, machine=MACHINE)
    assert odd.advice[0] == "sequence_parallel must divide the number of processes, 6"
    wide = plan(recipe, model=None, table=None, gpus=12, machine=MACHINE)
    assert (
        wide.advice[0] == "packs_per_step must be a multiple of 3 (processes by sequence_parallel, times micro_batch)"
    )


def test_offloaded_inputs_are_in_the_hosts_memory():
    """Ten tokens of two layers, 8 wide, in float32; 8 processes."""
    kept = tiny_recipe(gradient_checkpointing=True)
    offloaded = tiny_recipe(gradient_checkpointing=True, activation_offload=True)
    less = [memory_of(recipe, shape_of(kept), WORK, gpus=8).activations_bytes for recipe in (kept, offloaded)]
    assert less[0] - less[1] == 10 * 2 * 4 * 8
    long = msgspec.structs.replace(WORK, longest_pack=100_000)
    memory = memory_of(offloaded, shape_of(offloaded), long, gpus=8)
    found = storage_of(offloaded, shape_of(offloaded), long, memory, gpus=8, on_gpu=True)
    assert found.host_bytes == 8 * 100_000 * 2 * 4 * 8
    assert "activation_offload" in found.origins[1]


def test_experts_count_as_far_as_a_token_goes_through_them():
    """Qwen3-30B-A3B: 30.5 G weights, 3.3 G of them active, the head and the table of embeddings apart."""
    dims = {
        "type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936, "tie_word_embeddings": False,
    }  # fmt: skip
    shape = shape_of(tiny_recipe(plan={"model": dims}))
    assert shape.parameters == 30_532_122_624
    assert shape.active == 48 * (2048 * 4096 * 2 + 2048 * 512 * 2 + 2048 * 128 + 8 * 3 * 2048 * 768)
    assert shape.intermediate == 8 * 768


@pytest.mark.parametrize(
    ("save_every", "kept", "steps", "most", "disk"),
    [
        (None, 2, 7, 0, 11_168),
        (10, 2, 7, 1, 33_504 + 11_168),  # one at the last step, and the model beside it
        (4, 2, 7, 2, 2 * 33_504 + 11_168),
        (1, 2, 7, 3, 3 * 33_504),
        (1, 1, 7, 2, 2 * 33_504),
    ],
)
def test_checkpoints_at_a_time_by_hand(save_every, kept, steps, most, disk):
    recipe = tiny_recipe(weights="float32", save_every=save_every, checkpoints=kept)
    found = stored(recipe, gpus=1, steps=steps)
    assert (found.model_bytes, found.checkpoint_bytes) == (11_168, 11_168 * 3)
    assert (found.checkpoints, found.disk_bytes) == (most, disk)


def test_storage_of_adapters_by_hand():
    recipe = tiny_recipe(weights="bfloat16", lora={"rank": 4}, save_every=1, checkpoints=2)
    found = stored(recipe, gpus=1)
    assert ADAPTERS == 1024
    assert (found.model_bytes, found.checkpoint_bytes) == (4 * ADAPTERS, 3 * 4 * ADAPTERS)
    assert found.host_bytes == 2 * PARAMETERS + 4 * ADAPTERS
    assert stored(msgspec.structs.replace(recipe, fsdp=True), gpus=2).checkpoint_bytes == 2 * PARAMETERS + 12 * ADAPTERS
    on_cpu = stored(recipe, gpus=2, on_gpu=False)
    shape = shape_of(recipe)
    assert on_cpu.host_bytes == 2 * memory_of(recipe, shape, WORK, gpus=2).peak_bytes


def test_the_flagships_figures():
    """32.76 G weights: in float32 in a checkpoint, with two states each; three checkpoints; one process loads them."""
    planned = plan(load_recipe("qwen2.5-coder-32b-full-8gpu"), model=None, table=None)
    count, storage = planned.parameters, planned.storage
    assert count == 32_763_876_352
    assert (storage.model_bytes, storage.checkpoint_bytes) == (2 * count, 12 * count)
    assert (storage.disk_bytes, storage.host_bytes) == (3 * 12 * count, 4 * count)
    more = plan(load_recipe("qwen2.5-coder-32b-full-8gpu", sets=["packs_per_step=32"]), model=None, table=None)
    assert (more.fits, more.memory.gradients_bytes) == (True, 4 * count // 8)


def test_steps_and_tokens_of_rows_are_the_schedules(base, tmp_path):
    runs = []
    for number in range(5):
        run = make_run(["a" * (10 + 40 * number), "done"], id=f"run-{number}", task_id=f"a__b-{number}")
        runs.append(RunToRender(run, {"all": RunFacts(run.id, 2, True, {})}))
    renderer = Renderer.load(base[True])
    write_rows(tmp_path, runs, renderer, {"all": MaskPolicy(arm="all")}, RowSettings(), fingerprints={"all": "f"})
    table = RowTable.open(tmp_path / "all")
    recipe = Recipe(pack_tokens=512, packs_per_step=2, epochs=3, plan=Assumptions(tokens_per_s=100.0))
    planned = plan(recipe, model=str(base[True]), table=table, gpus=1, machine=MACHINE)
    schedule = Schedule.of(table, recipe, places=range(5))
    batches = [schedule[number] for number in range(schedule.real)]
    work = planned.work
    assert (work.steps, work.packs, work.tokens) == (schedule.steps, schedule.real, schedule.tokens())
    assert work.trained_tokens == sum(len(batch.target_K) for batch in batches)
    assert work.squares == sum(length**2 for batch in batches for length in batch.documents)
    assert work.longest_pack >= max(batch.input_ids.numel() for batch in batches)
    assert planned.time_s == work.tokens / 100.0


def test_time_is_operations_over_pace():
    planned = plan(tiny_recipe(), model=None, table=None, gpus=2, machine=MACHINE)
    assert planned.time_s == planned.flops / (2 * 1e9 * 0.5)


@pytest.mark.parametrize(("steps", "epochs"), [(None, 1.5), (7, 3.0)])
def test_assumed_rows_are_said(steps, epochs):
    recipe = tiny_recipe(pack_tokens=100, packs_per_step=4, steps=steps, epochs=epochs)
    recipe = msgspec.structs.replace(recipe, plan=Assumptions(model=TINY, rows=10, row_tokens=40))
    planned = plan(recipe, model=None, table=None, gpus=1, machine=MACHINE)
    assert planned.work.steps == (steps or math.ceil(math.ceil(5 * 1.5) / 4))
    assert planned.work.tokens == (7 * 4 * 2 * 40 if steps else 15 * 40)
    assert "no rows given: 10 of 40 tokens" in planned.assumptions[0]


def test_what_does_not_fit_says_which_change_would_do():
    recipe = load_recipe("qwen2.5-coder-7b-lora-1gpu", sets=["gradient_checkpointing=false"])
    planned = plan(recipe, model=None, table=None)
    assert not planned.fits
    remedied = plan(load_recipe("qwen2.5-coder-7b-lora-1gpu"), model=None, table=None)
    assert remedied.fits
    assert planned.advice[0] == f"gradient_checkpointing: true: peak {remedied.memory.peak_bytes / 2**30:,.1f} GiB"
    assert plan_table(planned).row_count > 20


def test_sharding_is_advised_with_the_machines_it_takes():
    full = plan(load_recipe("qwen2.5-coder-32b-full-8gpu", sets=["plan.gpu=H100-80GB"]), model=None, table=None)
    assert any(words.startswith("fsdp on 16 GPUs of 2 nodes: peak ") for words in full.advice)
    adapters = plan(load_recipe("qwen2.5-coder-7b-lora-1gpu", sets=["plan.gpu=RTX4090"]), model=None, table=None)
    assert not adapters.fits
    assert any(words.startswith("fsdp on 8 GPUs: peak ") for words in adapters.advice)


def test_what_training_would_refuse_is_said():
    planned = plan(tiny_recipe(packs_per_step=8, fsdp=True), model=None, table=None, gpus=3, machine=MACHINE)
    assert planned.advice == ["packs_per_step must be a multiple of 3 (processes times micro_batch)"]
    alone = plan(tiny_recipe(fsdp=True), model=None, table=None, gpus=1, machine=MACHINE)
    assert "more than one process" in alone.advice[0]


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"plan.gpu H900: not known; expected one of H200"):
        read_machine(tiny_recipe(plan={"gpu": "H900"}), processes=1)
    with pytest.raises(InputError, match=r"config.json cannot be read"):
        plan(tiny_recipe(model="own/model"), model=str(tmp_path / "none"), table=None, machine=MACHINE)
    with pytest.raises(InputError, match=r"plan.model: .*`type` and dimensions"):
        plan(tiny_recipe(plan={"model": {"type": "no-such"}}), model=None, table=None, machine=MACHINE)
    with pytest.raises(InputError, match=r"did you mean plan.mfu"):
        load_recipe("smollm2-135m-cpu", sets=["plan.mfuu=0.4"])
