"""The official harness, unmodified, on practice tasks of families and of a package."""

from pathlib import Path

import pytest

from srft.env.backends import Backend
from srft.env.practice import PracticeConfig, make_practice
from srft.env.tasks.task import load_tasks
from tests.official_verdicts import Verdict, run_official, run_ours

UNTOUCHED = """\
diff --git a/srft_harmless.txt b/srft_harmless.txt
new file mode 100644
--- /dev/null
+++ b/srft_harmless.txt
@@ -0,0 +1 @@
+nothing
"""


@pytest.mark.slow
@pytest.mark.engine
def test_gold_resolves_all_and_untouched_none(backend: Backend, purse_package: Path, tmp_path: Path) -> None:
    families = PracticeConfig(families=("bank_ledger", "calculator", "rate_limiter"), train=6, test=3)
    package = PracticeConfig(packages=(str(purse_package),), train=4, test=2, split="mutant")
    tasks = []
    for name, config in {"families": families, "package": package}.items():
        make_practice(config, tmp_path / name, backend=backend)
        for part in ("train", "test"):
            tasks += load_tasks(str(tmp_path / name / part))
    for task in tasks:
        backend.ensure_image(task)
    patches = {
        "gold": {task.instance_id: task.patch for task in tasks},
        "untouched": {task.instance_id: UNTOUCHED for task in tasks},
    }
    for kind, expected in {"gold": "resolved", "untouched": "unresolved"}.items():
        official = run_official(tasks, patches[kind], kind, out=tmp_path, workers=6)
        ours = run_ours(tasks, patches[kind], kind, out=tmp_path, workers=2)
        verdicts = [Verdict(task, kind, official[task.instance_id], ours[task.instance_id]) for task in tasks]
        assert [(v.task.instance_id, v.official, v.ours) for v in verdicts if v.official != expected] == []
        assert all(verdict.equal for verdict in verdicts)
