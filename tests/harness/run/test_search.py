"""Search in all texts: what is found, with its step; the index follows its file."""

import os
import sqlite3
import threading

import msgspec
import pytest

from srft.agent.records import Action
from srft.env.errors import InputError
from srft.harness.run.search import FILE_NAME, TextSearch, excerpts_of, words_of
from srft.harness.run.store import Run
from tests.train.conftest import make_run

PATCH = "--- a/forms.py\n+++ b/forms.py\n+    return cleaned_value\n"


@pytest.fixture
def place(tmp_path):
    """Three runs: an error in an observation, a command, a thought and a patch."""
    first = make_run(
        ["I look.\n```bash\nls\n```", "Done."], ["django.core.exceptions.ValidationError: bad"], id="first"
    )
    second = make_run(["Hm.", "Done."], id="second", task_id="c__d-2", patch=PATCH)
    action = Action(tool="bash", arguments={"command": "grep -rn foo_bar src/"}, format="backtick")
    thought = msgspec.structs.replace(second.steps[1], reasoning="The Überraschung is elsewhere.", action=action)
    second = msgspec.structs.replace(second, steps=(second.steps[0], thought))
    third = make_run(["Nothing."], id="third", task_id="e__f-3")
    with Run(tmp_path / "run") as run:
        round_ = run.round(0)
        for one in (first, second, third):
            round_.trajectories.append(one)
        round_.index()
        yield round_


def found(place, query):
    search = TextSearch(place.trajectories.path)
    search.update()
    ids = {entry.offset: entry.id for entry in place.index().standing}
    return sorted(ids[offset] for offset in search.find(query))


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("ValidationError", ["first"]),
        ("validationerr", ["first"]),
        ("Error", []),  # a word begins with it, no word holds it
        ("core.exceptions", ["first"]),
        ("exceptions core", ["first"]),
        ('"exceptions core"', []),
        ('"core exceptions ValidationError: bad"', ["first"]),
        ("foo_bar", ["second"]),
        ("bar grep", ["second"]),
        ("überraschung", ["second"]),
        ("cleaned_value", ["second"]),
        ("ValidationError foo_bar", []),
        ('it"s AND OR NOT NEAR( ^ * :', []),
    ],
)
def test_what_is_found(place, query, ids):
    assert found(place, query) == ids


def test_excerpts_name_the_step_and_mark_the_words(place):
    first, second, _ = place.index().standing
    path = place.trajectories.path
    (excerpt,) = excerpts_of(path, first.offset, words_of("validation"))
    assert (excerpt.part, excerpt.step) == ("observation", 0)
    assert excerpt.pieces == [("django.core.exceptions.", False), ("Validation", True), ("Error: bad", False)]
    told = excerpts_of(path, second.offset, words_of("foo_bar cleaned überr"))
    assert {(one.part, one.step) for one in told} == {("command", 1), ("patch", None)}  # the step once


def test_nothing_to_search_for_is_refused(place):
    with pytest.raises(InputError, match="nothing to search for"):
        TextSearch(place.trajectories.path).find(' !! "" ')


def test_what_is_appended_is_added_and_a_replaced_file_is_read_again(place):
    search = TextSearch(place.trajectories.path)
    assert (search.reach().is_whole, search.find("validation")) == (False, set())
    search.update()
    assert search.reach().is_whole
    assert len(search.find("validation")) == 1
    place.trajectories.append(make_run(["A ValidationError too."], id="new", task_id="g__h-4"))
    assert (search.reach().is_whole, len(search.find("validation"))) == (False, 1)
    search.update()
    assert (search.reach().is_whole, len(search.find("validation"))) == (True, 2)
    with place.trajectories.path.open("ab") as file:
        file.write(b'{"torn')
    assert search.reach().is_whole
    path = place.trajectories.path
    path.write_bytes(msgspec.json.encode(make_run(["Other texts."], id="x")) + b"\n")
    assert search.find("validation") == set()
    search.update()
    assert (search.find("validation"), search.find("other")) == (set(), {0})


def test_a_damaged_index_is_made_again_and_a_damaged_line_passed_over(place):
    path = place.trajectories.path
    TextSearch(path).update()
    (path.parent / FILE_NAME).write_bytes(b"not a database" * 100)
    with path.open("ab") as file:
        file.write(b'{"steps": 7}\n')
    search = TextSearch(path)
    search.update()
    assert (len(search.find("validation")), search.reach().is_whole) == (1, True)


def test_where_nothing_can_be_written_the_index_is_kept_elsewhere(place, monkeypatch):
    path = place.trajectories.path
    (path.parent / FILE_NAME).mkdir()  # as good as a folder without the right to write, which root has
    search = TextSearch(path)
    search.update()
    assert (len(search.find("validation")), search.reach().is_whole) == (1, True)


def test_one_searches_while_another_adds(place):
    search, stop = TextSearch(place.trajectories.path), threading.Event()
    search.update()
    with sqlite3.connect(place.trajectories.path.parent / FILE_NAME) as other:
        other.execute("INSERT INTO run(rowid, text) VALUES (999999, 'ValidationError')")  # not committed yet
        assert len(search.find("validation")) == 1
        other.rollback()
    stop.set()
    search.update(stop)
    assert os.path.exists(place.trajectories.path.parent / FILE_NAME)
