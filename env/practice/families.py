"""The families of small modules that practice tasks are made from: the folders of modules/.

    families()                          # ("bank_ledger", "calculator", ...)
    family_files("bank_ledger")         # {"bank_ledger.py": File(...), "test_bank_ledger.py": File(...)}

A family is a project without dependencies: source files at its root or in one package folder, and pytest files that
import them from the root.
"""

import difflib
import re
from pathlib import Path

from srft.env.errors import InputError
from srft.env.practice.git_store import File

MODULES = Path(__file__).parent / "modules"

LEFT_BY_RUNS = re.compile(r"(^|/)(__pycache__|\.)")
"""Caches of whoever ran the tests in place."""


def families() -> tuple[str, ...]:
    """Their names, sorted."""
    return tuple(sorted(folder.name for folder in MODULES.iterdir() if any(folder.glob("**/test_*.py"))))


def family_files(name: str) -> dict[str, File]:
    """{path: file} of a family. Raises InputError."""
    known = families()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise InputError(f"family {name}: there is none of that name; {meant}")
    folder = MODULES / name
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: File(path.read_bytes()) for name, path in paths.items() if not LEFT_BY_RUNS.search(name)}
