"""What every setting is to the result: decided on purpose, field by field; and what goes on with what there is."""

import importlib
import pkgutil
from pathlib import Path

import msgspec
import pytest

import srft.agent
import srft.critic
import srft.env
import srft.harness
import srft.train
from srft.agent.models.openai import OpenAIConfig
from srft.critic.judge.config import JudgeConfig
from srft.env.errors import InputError
from srft.env.identity import identity, marks
from srft.harness.config.config import CollectConfig, EpisodesConfig, ImagesConfig
from srft.harness.config.identity import Change, Identity, changed, keep, kept
from srft.harness.loop.loop_config import LoopConfig, RunsConfig
from srft.harness.stages.critique import CritiqueConfig
from tests.tiny import write_tasks

# Record -> what decides, what may change when a run goes on, what adds to it. A new setting is put down here by hand.
SETTINGS = {
    "Assumptions": ("gpu gpus mfu model row_tokens rows tokens_per_s trained_share", "", ""),
    "BatchConfig": ("enabled max_mib max_requests poll_s price_share until", "", ""),
    "Budget": ("disk_gib tokens usd wall_s", "", ""),
    "Choice": ("new portions reliable solved unsolved", "", ""),
    "CollectConfig": (
        "demonstrator episode format grading images model openai prompt ray sandbox seed",
        "hooks infra_retries warm workers",
        "attempts attempts_by_task only tasks",
    ),
    "CriticRowsConfig": ("contamination form labels rows template tokenizer", "", "evaluation only"),
    "CritiqueAssumptions": (
        "analysis_tokens entry_tokens prompt_tokens_per_s reply_tokens_per_s thinking_tokens",
        "",
        "",
    ),
    "CritiqueConfig": ("critic judge ray round", "batch hooks max_usd plan workers", "only outcome tasks"),
    "DemonstratorConfig": ("habits rates style", "", ""),
    "EpisodeLimits": ("command_timeout_s context_tokens cost_usd format_errors steps tokens wall_s", "", ""),
    "EpisodesConfig": (
        "demonstrator episode format grading images openai prompt ray sandbox seed",
        "infra_retries warm workers",
        "attempts",
    ),
    "ErrorRates": ("ignore_tests revert spoil unfinished unnecessary wrong_edit wrong_file", "", ""),
    "FormConfig": (
        "content_chars information observation_chars question_chars reason_chars reasons steps task_chars",
        "",
        "",
    ),
    "GradingConfig": ("capabilities network", "cpus memory_gib pids timeout_s workers", "enabled"),
    "HooksConfig": ("", "command timeout_s url", ""),
    "ImagesConfig": ("platform", "disk_budget_gib pulls_per_minute", ""),
    "JudgeConfig": (
        "analysis_chars chars_per_token command_chars context_tokens evidence_chars information min_text_chars model "
        "openai overlap_steps prompt reason_chars repairs schema seed thinking_tokens votes",
        "cache_control name stream",
        "",
    ),
    "LoopAssumptions": (
        "cached_share command_s context_tokens gpus grading_s held_out image_gib judge_usd_per_million_completion "
        "judge_usd_per_million_prompt reply_tokens reply_tokens_per_s runs start_s steps tasks "
        "unresolved_share",
        "",
        "",
    ),
    "LoopConfig": (
        "carry choose collect contamination critic evaluate judge mask model practice promote recipe rows serve start",
        "budget hooks may_fail plan preset processes training",
        "arms evaluation rounds runs seeds tasks teachers",
    ),
    "Lora": ("alpha dropout modules rank", "", ""),
    "MaskPolicy": (
        "arm failed_submit good labelled_share mask_resolved min_confidence mistake recover seed train unlabelled "
        "unnecessary",
        "",
        "",
    ),
    "OpenAIConfig": (
        "extra_body logprobs max_tokens reasoning_field return_token_ids send_reasoning temperature tokenizer top_p",
        "api_key_env base_url max_retries name retry_s timeout_s usd_per_million_cached usd_per_million_completion "
        "usd_per_million_prompt",
        "",
    ),
    "PracticeConfig": ("families issue packages requirements runs seed split test train", "workers", ""),
    "Promotion": ("arm level margin", "", ""),
    "RayConfig": ("", "address cpus", ""),
    "Recipe": (
        "attention compute epochs evaluate_every fsdp gradient_checkpointing held_out learning_rate liger "
        "log_every lora max_grad_norm micro_batch optimizer pack_tokens packs_per_step router_loss schedule seed steps "
        "trainer warmup_steps weight_decay weights",
        "about activation_offload checkpoints logger model plan replicas save_every sequence_parallel",
        "",
    ),
    "RowSettings": ("calls max_tokens overlong per_task rewritten source tools", "", ""),
    "RowsConfig": ("contamination critics policy rows template thinking tokenizer", "", "arms evaluation"),
    "RunsConfig": ("format limit outcome report sources tools", "", ""),
    "SandboxConfig": ("cpus memory_gib mode network pids", "kind", ""),
    "ServeCommandConfig": ("serve", "", ""),
    "ServeConfig": (
        "dtype kind max_model_len tool_call_parser",
        "batch cache_gib host port start_timeout_s vllm_args vllm_python",
        "",
    ),
    "TrainConfig": ("contamination model recipe rows", "out", "evaluation"),
}
NOT_KEPT = {"DoctorConfig", "ExportConfig"}
"""What these give is made anew each time."""

CONTENTS = {
    "CollectConfig": {"model", "prompt", "tasks"},
    "CriticRowsConfig": {"evaluation", "tokenizer"},
    "CritiqueConfig": {"critic", "tasks"},
    "EpisodesConfig": {"prompt"},
    "JudgeConfig": {"model", "prompt"},
    "LoopConfig": {"critic", "evaluation", "model", "recipe", "tasks", "teachers"},
    "OpenAIConfig": {"tokenizer"},
    "PracticeConfig": {"packages"},
    "RowsConfig": {"evaluation", "tokenizer"},
    "RunsConfig": {"report", "sources", "tools"},
    "TrainConfig": {"evaluation", "model", "rows"},
}
"""Record -> the settings that are names of something, and count by what they stand for."""


def records() -> dict[str, type[msgspec.Struct]]:
    """Every record of settings, by name: those that a user can write unknown keys into."""
    for package in (srft.env, srft.agent, srft.critic, srft.train, srft.harness):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not any(part in module.name for part in ("practice.modules", ".debug", "__main__", "dialects")):
                importlib.import_module(module.name)
    ends = (
        *("Config", "Settings", "Limits", "Recipe", "Policy", "Assumptions", "Budget", "Promotion", "Lora", "Rates"),
        "Choice",
    )
    return {
        kind.__name__: kind
        for kind in _below(msgspec.Struct)
        if kind.__name__.endswith(ends)
        and not kind.__name__.startswith("_")
        and kind.__struct_config__.forbid_unknown_fields
        and ".facts." not in kind.__module__
        and kind.__module__.startswith("srft.")
    }


def _below(kind: type) -> set[type]:
    return {one for below in kind.__subclasses__() for one in (below, *_below(below))}


def test_every_setting_of_every_record_is_what_somebody_decided_that_it_is():
    found = {
        name: tuple(
            " ".join(sorted(field for field, mark in marks(kind).items() if mark.kind == what))
            for what in ("decides", "may change", "adds")
        )
        for name, kind in records().items()
        if name not in NOT_KEPT
    }
    assert found == SETTINGS


def test_every_setting_that_names_a_file_or_a_model_counts_by_what_it_stands_for():
    found = {
        name: names
        for name, kind in records().items()
        if name not in NOT_KEPT and (names := {field for field, mark in marks(kind).items() if mark.read})
    }
    assert found == CONTENTS


HERE = Path()


def test_prompts_labels_scripts_and_judges_prompts_count_by_content(tmp_path):
    agent = Path(srft.agent.__file__).parent / "prompts" / "short.yaml"
    judge = Path(srft.critic.__file__).parent / "judge" / "prompts" / "default.yaml"
    cases = {
        "prompt.yaml": (agent.read_text(), lambda path: EpisodesConfig(prompt=path)),
        "judge.yaml": (judge.read_text(), lambda path: JudgeConfig(prompt=path)),
        "labels.jsonl": ("a", lambda path: CritiqueConfig(critic=f"file:{path}")),
        "script.yaml": ("a", lambda path: CollectConfig(tasks="none/such", model=f"script:{path}")),
        "runs.jsonl": ("a", lambda path: RunsConfig(sources=(path,))),
    }
    for name, (text, config) in cases.items():
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        for path in (tmp_path / name, tmp_path / "elsewhere" / name):
            path.write_text(text)
        before = identity(config(str(tmp_path / name)), base=HERE)
        assert identity(config(str(tmp_path / "elsewhere" / name)), base=HERE) == before
        (tmp_path / name).write_text(f"{text}b" if text == "a" else text.replace("You ", "Thou "))
        assert identity(config(str(tmp_path / name)), base=HERE) != before, name


def test_an_endpoint_counts_by_its_models_name():
    def of(model: str, **openai: object) -> dict[str, object]:
        return identity(CollectConfig(tasks="none/such", model=model, openai=OpenAIConfig(**openai)), base=HERE)

    assert (
        of("http://one/v1#m") == of("https://two:8000/v1", name="m", timeout_s=1.0) == of("http://one/v1#m", name="n")
    )
    assert of("http://one/v1#m") != of("http://one/v1#n")
    assert of("http://one/v1#m") != of("http://one/v1#m", temperature=0.5)


def test_a_model_folder_that_is_not_there_is_an_error_and_no_name_on_the_hub(tmp_path):
    def of(model: str) -> dict[str, object]:
        return identity(
            LoopConfig(model=model, recipe="smollm2-135m-cpu", tasks="none/a", evaluation="none/b"), base=HERE
        )

    assert of("owner/name")["model"] != of("owner/other")["model"]
    for missing in ("runs/demo/round-001/model/srft", str(tmp_path / "gone"), "./gone"):
        with pytest.raises(InputError, match="no such model folder"):
            of(missing)


def of_tasks(path: Path) -> Identity:
    return Identity.of(CollectConfig(tasks=str(path), model="demonstrator"), base=HERE)


def test_tasks_count_by_their_rows(tmp_path):
    one, more = (write_tasks(tmp_path / name, count) for name, count in (("one.jsonl", 1), ("more.jsonl", 2)))
    first, second = (
        Identity.of(CollectConfig(tasks=str(path), model="demonstrator"), base=HERE) for path in (one, more)
    )
    assert list(first.adds["tasks"]) == ["tiny__tiny-0"]
    assert changed(first, second, may_grow=["tasks"]) == []
    (change,) = changed(second, first, may_grow=["tasks"])
    assert str(change) == "tasks (was 2 tasks, now 1, of which 1 are gone or others: tiny__tiny-1)"
    one.write_text(one.read_text().replace("must say", "should say"))
    other = of_tasks(one)
    assert [it.setting for it in changed(first, other, may_grow=["tasks"])] == ["tasks"]


def test_what_grows_and_what_does_not():
    def one(**adds: object) -> Identity:
        return Identity(decides={"a": 1}, adds=adds)

    assert changed(one(n=2, t=["a"]), one(n=3, t=["a", "b"]), may_grow=["n", "t"]) == []
    assert changed(one(n=3), one(n=2), may_grow=["n"]) == [Change("n", 3, 2)]
    assert changed(one(t=["a"]), one(t=["b", "a"]), may_grow=["t"]) == [Change("t", ["a"], ["b", "a"])]
    assert changed(one(n=3), one(n=2)) == []
    assert changed(Identity(decides={"a": 1}), Identity(decides={"b": 2})) == [
        Change("a", 1, None),
        Change("b", None, 2),
    ]


def test_it_is_kept_as_it_is(tmp_path):
    assert kept(tmp_path) is None
    made = Identity.of(CollectConfig(tasks="none/such", model="demonstrator", attempts=3), base=HERE)
    keep(tmp_path, made)
    assert kept(tmp_path) == made
    (tmp_path / "identity.json").write_text("{}")
    with pytest.raises(InputError, match=r"identity\.json: not an identity of this version"):
        kept(tmp_path)


def test_what_may_change_is_in_no_identity():
    config = CollectConfig(tasks="none/such", model="demonstrator")
    changed_ = msgspec.structs.replace(
        config, workers=9, warm=False, infra_retries=0, images=ImagesConfig(disk_budget_gib=1.0)
    )
    assert Identity.of(config, base=HERE) == Identity.of(changed_, base=HERE)
