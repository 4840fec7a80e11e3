r"""SWE-Gym/SWE-Gym and SWE-Gym/SWE-Gym-Lite: eleven Python repositories, an image an instance.

| published column | becomes |
|---|---|
| instance_id, repo, base_commit, patch, test_patch, problem_statement, hints_text, created_at | as they are |
| instance_id | image: `xingyaoww/sweb.eval.x86_64.<id>`, `__` as `_s_`, lower case; image_name or docker_image win |
| repo and version | install and test commands: SWE-Gym's fork of SWE-bench keeps them; `_SPECS` is what it has |
| test_patch | the test files; for python/mypy the names of the cases that it writes |
| FAIL_TO_PASS, PASS_TO_PASS | as they are |

Its parsers are SWE-bench's parse_log_pytest, whose name is the second word of a line "STATUS name". For pydantic the
fork has one that also drops colours and a percentage after FAILED; with its command (`-rA`, no terminal, classic
progress) neither is printed, so parse_log_pytest reads the same lines.
"""

import re
from typing import Any, NamedTuple

from srft.env.errors import InputError
from srft.env.tasks.dialects import start_state
from srft.env.tasks.dialects.eval_script import EvalSteps, eval_script, test_directives


class _Spec(NamedTuple):
    """How versions from `since` on are installed and tested."""

    since: tuple[int, ...]
    test_command: str
    install: str
    before: tuple[str, ...] = ()


_CONAN_PATH = ("export PYTHONPATH=${PYTHONPATH:-}:$(pwd)",)
_CONAN_INSTALL = " ".join(
    f"python -m pip install -r conans/requirements{name}.txt;" for name in ("", "_server", "_dev")
).removesuffix(";")
_CONAN_CYTHON = "echo 'cython<3' > /tmp/constraint.txt; export PIP_CONSTRAINT=/tmp/constraint.txt; "
_CONAN_OLD = _Spec((0,), "pytest -n0 -rA", _CONAN_CYTHON + _CONAN_INSTALL, _CONAN_PATH)
_CONAN_NEW = _CONAN_OLD._replace(install=_CONAN_INSTALL)
_DVC_INSTALL = (
    "python -m pip install --upgrade pip wheel GitPython; "
    'python -m pip install "cython<3.0.0" && python -m pip install --no-build-isolation pyyaml==5.4.1; '
    "python -m pip install git+https://github.com/iterative/mock-ssh-server.git || true; "
    "python -m pip install -r tests/requirements.txt || true; "
    "python -m pip install -r test-requirements.txt || true; "
    'python -m pip install -e ".[tests,dev,all_remotes,all,testing]";'
)
_HYDRA_OLD_INSTALL = (
    "sed -i 's|isort@git+git://github.com/timothycrosley/isort|isort@git+https://github.com/timothycrosley/isort|g' "
    "requirements/dev.txt; "
    '{ tail -n1 requirements/requirements.txt | grep -q "." && echo ""; } >> requirements/requirements.txt; '
    'echo "pip==24.0" >> requirements/requirements.txt;'
    'pip install "pip==24.0"; pip install -r requirements/dev.txt; pip install -e .;'
)
_MONAI_INSTALL = (
    r"sed -i '/^git+https:\/\/github.com\/Project-MONAI\//d' requirements-dev.txt; "
    "python -m pip install types-pkg-resources==0.1.3 pytest; "
    "pip install -r requirements-dev.txt;python setup.py develop;"
)
_MYPY_INSTALL = "python -m pip install -r test-requirements.txt; python -m pip install -e .; "
_PANDAS_INSTALL = (
    "python -m pip install -ve . --no-build-isolation -Ceditable-verbose=true; pip uninstall pytest-qt -y;"
)

# The newest version first: the first spec that a version reaches is its.
_SPECS: dict[str, tuple[_Spec, ...]] = {
    "bokeh/bokeh": (
        _Spec((3,), "pytest -rA -n0", "python -m pip install -e .; python -m pip install bokeh_sampledata;"),
        _Spec(
            (0,),
            "pytest -rA -n0",
            'pip install "setuptools<66" "jinja2<3.1"; printf "1\\n" | python setup.py develop; bokeh sampledata;',
        ),
    ),
    "conan-io/conan": (
        _CONAN_NEW._replace(since=(2, 1)),
        _CONAN_OLD._replace(since=(2,)),
        _CONAN_NEW._replace(since=(1, 60)),
        _CONAN_OLD,
    ),
    "dask/dask": (_Spec((0,), "pytest -n0 -rA  --color=no", "python -m pip install --no-deps -e ."),),
    "facebookresearch/hydra": (
        _Spec((1, 3), "pytest -rA --tb=long", "pip install -r requirements/dev.txt; pip install -e .;"),
        _Spec((0,), "pytest -rA --tb=long", _HYDRA_OLD_INSTALL),
    ),
    "getmoto/moto": (_Spec((0,), "pytest -n0 -rA", "make init"),),
    "iterative/dvc": (
        _Spec((3, 4), "pytest -rA", _DVC_INSTALL),
        _Spec(
            (0,),
            "pytest -rA",
            f'{_DVC_INSTALL} python -m pip install "numpy<=1.20"; python -m pip install "pytest<8";',
        ),
    ),
    "modin-project/modin": (
        _Spec((0, 20), "pytest -n0 -rA", "python -m pip install -e .;"),
        _Spec(
            (0,),
            "pytest -n0 -rA",
            "python -m pip install -e .; python -m pip install numpy==1.23.1 protobuf==3.20.1;",
        ),
    ),
    "pandas-dev/pandas": (
        _Spec((2, 2), "pytest -rA --tb=long", _PANDAS_INSTALL),
        _Spec((0,), "pytest -rA --tb=long", f"python -m pip install 'numpy<2'; {_PANDAS_INSTALL}"),
    ),
    "project-monai/monai": (_Spec((0,), "pytest -rA", _MONAI_INSTALL),),
    "pydantic/pydantic": (
        _Spec(
            (0,),
            "pytest -rA --tb=short -vv -o console_output_style=classic --no-header",
            'export PATH="$HOME/.local/bin:$PATH"; pdm add pre-commit; make install;',
        ),
    ),
    "python/mypy": (
        # "0.990" and its like are three digits: they reach (0,), not (1,).
        _Spec((1, 7), "pytest -rA -k", f"{_MYPY_INSTALL}hash -r"),
        _Spec((1,), "pytest -n0 -rA -k", f"{_MYPY_INSTALL}hash -r"),
        _Spec((0,), "pytest -n0 -rA -k", f"{_MYPY_INSTALL}pip install pytest pytest-xdist; hash -r"),
    ),
}

TEXT_COLUMNS = ("instance_id", "repo", "base_commit")
"""What `adapt` reads as text: `schema.py` has made sure of it."""


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is SWE-Gym's: its columns are SWE-bench's, its repositories are not."""
    return str(row.get("repo")).lower() in _SPECS and "FAIL_TO_PASS" in row and "test_patch" in row


def adapt(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A swebench-5 row of one of SWE-Gym's; its test lists are lists already."""
    spec = _spec(row, where)
    test_patch = str(row["test_patch"])
    image = f"xingyaoww/sweb.eval.x86_64.{row['instance_id'].replace('__', '_s_')}:latest".lower()
    return {
        **row,
        "image": row.get("docker_image") or row.get("image_name") or image,
        "eval_script": eval_script(
            EvalSteps(
                base_commit=str(row["base_commit"]),
                test_patch=test_patch,
                test_command=_test_command(row, spec, test_patch, where),
                install=(spec.install,),
                before=spec.before,
                nounset=False,
            )
        ),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "agent_setup": start_state.COMMIT_LEFTOVERS,
    }


def _spec(row: dict[str, Any], where: str) -> _Spec:
    version = str(row.get("version") or "")
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        raise InputError(
            f"{where}: version: expected one such as 1.10, got {version!r}; SWE-Gym's test command follows from it"
        )
    reached = tuple(map(int, version.split(".")))
    return next(spec for spec in _SPECS[row["repo"].lower()] if reached >= spec.since)


def _test_command(row: dict[str, Any], spec: _Spec, test_patch: str, where: str) -> str:
    if row["repo"].lower() != "python/mypy":
        return " ".join([spec.test_command, *test_directives(test_patch)])
    cases = re.findall(r"\[case ([^\]]+)\]", test_patch)
    if not cases:
        raise InputError(f"{where}: test_patch: expected a line with [case NAME], as mypy's test data have; got none")
    return f'{spec.test_command} "{" or ".join(cases)}"'
