"""All 246 recorded runs, in two real tokenizers: the trained tokens read exactly as what the model wrote."""

from pathlib import Path

import pytest

from srft.agent.importing.importers import read_runs
from srft.agent.records import Trajectory
from srft.critic.labels.labels import Evidence, StepLabel, effective_labels
from srft.critic.rules.rules import ToolErrorCritic
from srft.train.rows.mask import Arm, MaskPolicy, RunFacts, step_weights
from srft.train.rows.render import Renderer
from srft.train.rows.rows import Manifest, Row, RowSettings, RowTable, RunToRender, write_rows

ARMS: tuple[Arm, ...] = ("all", "resolved", "srft", "random")
RUNS = Path("trajectories", "gemini3pro_mini_verified.jsonl.gz")
WHOLE = RowSettings(max_tokens=1_000_000)


@pytest.fixture(scope="module")
def runs(shared_data: Path) -> dict[str, RunToRender]:
    """Run id -> the run and what its masks depend on; the labels are those of the tool_error critic."""
    if not (shared_data / RUNS).is_file():
        pytest.skip(f"no {shared_data / RUNS}")
    return {run.id: RunToRender(run, dict.fromkeys(ARMS, _facts(run))) for run in read_runs(shared_data / RUNS)}


def _facts(run: Trajectory) -> RunFacts:
    critique = ToolErrorCritic().judge(run, Evidence())
    assert critique is not None
    labels = effective_labels([critique], critics=["tool_error"])
    return RunFacts(run.id, len(run.steps), run.recorded_resolved, labels, run.stop_reason)


@pytest.fixture(scope="module", params=["smollm2", pytest.param("qwen3_tokenizer", marks=pytest.mark.slow)])
def renderer(request: pytest.FixtureRequest) -> Renderer:
    return Renderer.load(request.getfixturevalue(request.param), thinking="without")


@pytest.fixture(scope="module")
def made(
    runs: dict[str, RunToRender], renderer: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Manifest]]:
    """The folder of the arms' rows, and their counts."""
    folder = tmp_path_factory.mktemp("rows")
    policies = {arm: MaskPolicy(arm=arm) for arm in ARMS}
    return folder, write_rows(
        folder, runs.values(), renderer, policies, WHOLE, fingerprints=dict.fromkeys(ARMS, "recorded")
    )


def test_counts(runs, made):
    assert sum(len(run.trajectory.steps) for run in runs.values()) == 10_222
    assert {arm: (m.runs, m.runs_used, m.left_out, m.dropped) for arm, m in made[1].items()} == {
        "all": (246, 246, {}, {}),
        "resolved": (246, 179, {"unresolved": 67}, {}),
        "srft": (246, 246, {}, {}),
        "random": (246, 246, {}, {}),
    }
    assert made[1]["all"].steps == made[1]["srft"].steps == made[1]["random"].steps == 10_222
    # The same number of steps; other ones, so other tokens.
    assert made[1]["srft"].steps_masked == made[1]["random"].steps_masked > 0
    assert made[1]["srft"].trained_tokens != made[1]["random"].trained_tokens
    assert made[1]["all"].steps_masked == made[1]["resolved"].steps_masked == 0
    assert made[1]["all"].trained_tokens == made[1]["all"].written_tokens


@pytest.mark.parametrize("arm", ARMS)
def test_the_trained_tokens_are_the_trained_steps_to_the_character(runs, renderer, made, arm):
    rows_by_run: dict[str, list[Row]] = {}
    for row in RowTable.open(made[0] / arm):
        rows_by_run.setdefault(row.run_id, []).append(row)
    assert len(rows_by_run) == made[1][arm].runs_used
    wrong = [id for id, rows in rows_by_run.items() if problem(runs[id], rows, renderer, arm)]
    assert wrong == []


def problem(run: RunToRender, rows: list[Row], renderer: Renderer, arm: Arm) -> str | None:
    """What is wrong with a run's rows, `None` where all is as it should be."""
    weight_S = step_weights(run.facts[arm], MaskPolicy(arm=arm))
    expected = "".join(
        step.content + renderer.end_text
        for step, weight in zip(run.trajectory.steps, weight_S, strict=True)
        if weight > 0
    )
    backend = renderer.tokenizer.backend_tokenizer
    if backend.normalizer:
        expected = backend.normalizer.normalize_str(expected)
    trained = [token for row in rows for token in row.input_ids[row.weights > 0].tolist()]
    if backend.decode(trained, skip_special_tokens=False) != expected:
        return "the trained tokens read differently"
    masked = [step for step, weight in enumerate(weight_S) if weight == 0]
    for row in rows:
        if any(row.weights[row.step_index == step].any() for step in masked):
            return "a masked step has a token with a weight"
        if row.weights[row.step_index < 0].any():
            return "a token outside steps has a weight"
    return None


def test_the_check_finds_a_shifted_mask_and_a_masked_step(runs, renderer, made):
    row = RowTable.open(made[0] / "all")[0]
    run = runs[row.run_id]
    assert problem(run, [row], renderer, "all") is None
    shifted = row._replace(weights=row.weights.take(range(-1, len(row.weights) - 1)))
    assert problem(run, [shifted], renderer, "all") == "the trained tokens read differently"
    labels = {0: StepLabel(step=0, verdict="mistake"), 1: StepLabel(step=1, verdict="good")}
    masking = RunToRender(run.trajectory, {"srft": run.facts["srft"]._replace(resolved=False, labels=labels)})
    assert problem(masking, [row], renderer, "srft") == "the trained tokens read differently"
