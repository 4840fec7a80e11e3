"""The command line as a user has it, for the stages' tests."""

import pytest


@pytest.fixture
def srft(tmp_path):
    """Runs the command line as a user does: srft("collect", ...) gives the finished process."""
    import subprocess
    import sys

    def run(*arguments: object, **options):
        return subprocess.run(
            [sys.executable, "-m", "srft.harness.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=tmp_path,
            **options,
        )

    return run
