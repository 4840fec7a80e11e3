"""A program in a tmux of its own: its keys and its screen.

with Terminal(["srft", "debug", ...], folder) as terminal:
    terminal.until("ready")
    terminal.keys("a")
"""

import shlex
import subprocess
import time
import uuid
from pathlib import Path
from typing import Self

LIMIT_S = 20


class Terminal:
    """80 by 24. What the program leaves on the screen stays until the end."""

    def __init__(self, command: list[str], folder: Path, *, width: int = 80, height: int = 24) -> None:
        self._server = f"srft-test-{uuid.uuid4().hex[:8]}"
        # The program's own exit code, and the process id that a test may kill.
        words = f"echo $$ >pid; exec 3>&1; {shlex.join(command)}; echo ended with $?; sleep 600"
        size = ["-x", str(width), "-y", str(height)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), words)
        self._folder = folder

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self._server, *arguments], capture_output=True, text=True, check=True, timeout=30
        ).stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def keys(self, *keys: str) -> None:
        """Keys by tmux's names: "Enter", "F2", "C-c", or letters; one after the other, as fingers are."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.1)

    def write(self, text: str) -> None:
        """A text, letter for letter."""
        self._tmux("send-keys", "-l", text)

    def until(self, *texts: str, without: str | None = None) -> str:
        """The screen, once all of the texts are on it."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            screen = self.screen()
            if all(text in screen for text in texts) and (without is None or without not in screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"not on the screen after {LIMIT_S} s: {texts}, without {without}\n{screen}")

    def process(self) -> int:
        """The process id of the program."""
        shell = int((self._folder / "pid").read_text())
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["tmux", "-L", self._server, "kill-server"], capture_output=True, check=False, timeout=30)
