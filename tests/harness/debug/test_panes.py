"""The app without a terminal: what its panes show and its keys do, over a real session in the local sandbox."""

import asyncio
import time
from collections.abc import Callable

import pytest
import yaml

from srft.harness.debug.app import DebugApp
from srft.harness.debug.writing import WritingPane
from tests.harness.debug.conftest import bash


class Recording(DebugApp):
    """Keeps what was told in its corner, where it stays for seconds."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.told: list[str] = []

    def notify(self, message: str, *, title: str = "", **options) -> None:
        self.told.append(" ".join(filter(None, (title, message))))
        super().notify(message, title=title, **options)


def told(app: Recording) -> list[str]:
    return app.told


def shown(app: DebugApp) -> str:
    """All texts on the screen, popups too."""
    return "\n".join(str(widget.content) for widget in app.screen.query("Static"))


async def until(pilot, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, (shown(pilot.app), told(pilot.app))
        await pilot.pause(0.05)


@pytest.fixture
def open_app(session, local, folder):
    """Opens the app and runs a test in it: open_app(replies, test, size)."""

    def run(replies, test, size=(100, 30)):
        (folder / "replies.yaml").write_text(yaml.safe_dump(replies))

        async def opened() -> None:
            app = Recording(session("local"), begin=lambda _: [], run="run")
            try:
                async with app.run_test(size=size) as pilot:
                    await test(app, pilot)
            finally:
                await asyncio.to_thread(app._session.close)

        asyncio.run(opened())

    return run


def test_issue_help_unknown_keys_and_leaving(open_app):
    async def keys(app, pilot):
        assert "answer.txt must say 42." in shown(app)  # the container is still being started
        await until(pilot, lambda: app._session.proposal is not None)
        await pilot.press("z")
        assert told(app)[-1] == "z does nothing; ? shows all keys"
        await pilot.press("up", "pagedown", "tab")
        assert len(told(app)) == 1
        await pilot.press("question_mark")
        assert "take the proposed step as it is" in shown(app)
        await pilot.press("z", "escape")
        assert len(told(app)) == 1
        await pilot.press("a")
        await until(pilot, lambda: app._session.step == 1 and app._session.proposal is not None)
        await pilot.press("ctrl+c")
        assert told(app)[-1] == "unsaved: this run once more leaves, s saves"
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app._exit)

    open_app([bash("ls"), bash("echo 43 >answer.txt")], keys)


def test_the_thought_is_edited_with_the_command(open_app):
    async def keys(app, pilot):
        await until(pilot, lambda: app._session.proposal is not None and not app.is_busy)
        assert not app.query_one("#facts").display
        assert "? All keys" in str(app.query_one("KeysLine").render())
        await pilot.press("e")
        writing = app.query_one(WritingPane)
        assert writing.words[:2] == ("ls", "I act.")
        writing.query_one("#thought").text = "I look at\neverything."
        writing.query_one("#action").text = "ls -a"
        await pilot.press("ctrl+c")
        assert told(app)[-1] == "unsaved: what you are writing once more leaves, s saves"
        await pilot.press("f2")
        await until(pilot, lambda: app._session.step == 1)

        (step,) = app._session.episode.steps
        assert (step.author, step.content) == ("edited", "I look at\neverything.\n\n```bash\nls -a\n```")

    open_app([bash("ls"), bash("submit")], keys, size=(70, 24))


def test_rewinding_and_going_to_another_fork(open_app):
    async def keys(app, pilot):
        await until(pilot, lambda: app._session.proposal is not None and not app.is_busy)
        await pilot.press("a")
        await until(pilot, lambda: app._session.step == 1 and app._session.proposal is not None and not app.is_busy)
        await pilot.press("r")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("ctrl+u", "0", "enter")
        await until(pilot, lambda: "0 of fork 1 (2 forks)" in shown(app))

    open_app([bash("ls"), bash("submit")], keys)
