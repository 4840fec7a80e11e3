"""A task of two files, whose image is made from srft's base image in a second; nothing is ever graded on it.

build_tiny_image()
SweEnv([TINY_TASK]).reset()
"""

from functools import cache
from pathlib import Path

from docker.errors import APIError, BuildError

from srft.env.docker.sandbox import engine
from srft.env.errors import ImageError
from srft.env.tasks.task import Task

ROOT = Path(__file__).resolve().parents[2]
TINY_IMAGE = "srft/bench.tiny:latest"

TINY_TASK = Task(
    instance_id="srft__bench-tiny",
    repo="srft/bench",
    base_commit="",
    problem_statement="mean([1, 2, 3]) gives 1.5; it should be 2.",
    patch="",
    test_patch="",
    FAIL_TO_PASS=(),
    PASS_TO_PASS=(),
    image=TINY_IMAGE,
    eval_script="true",
    log_parser="parse_log_pytest",
    eval_type="pass_and_fail",
)

COMMANDS = (
    "ls -la",
    "cat averages.py check_averages.py",
    "grep -rn 'def ' --include='*.py' .",
    "sed -i 's/(len(numbers) + 1)/len(numbers)/' averages.py",
    "git diff --stat",
)
"""What an episode does before it hands in."""


@cache
def build_tiny_image() -> None:
    """Once. Raises EngineError, ImageError."""
    try:
        engine().images.build(path=str(Path(__file__).with_name("tiny")), tag=TINY_IMAGE, rm=True)
    except (APIError, BuildError) as error:
        raise ImageError(f"{TINY_IMAGE} cannot be built ({error}); `make setup` makes its base image") from error
