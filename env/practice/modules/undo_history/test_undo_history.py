import pytest

from undo_history import Editor, History, NothingToRedo, NothingToUndo


def history_of(*states, limit=10):
    history = History(states[0], limit)
    for state in states[1:]:
        history.record(state)
    return history


def test_the_newest_state_is_current():
    assert history_of(1, 2, 3).current == 3


def test_undo_goes_back_one_step_when_not_told():
    assert history_of(1, 2, 3).undo() == 2


def test_undo_goes_back_several_steps():
    assert history_of(1, 2, 3).undo(2) == 1


def test_undo_stops_at_the_beginning():
    with pytest.raises(NothingToUndo, match="2 steps back, not 3"):
        history_of(1, 2, 3).undo(3)


def test_redo_goes_forward_again():
    history = history_of(1, 2, 3)
    history.undo(2)
    assert history.redo() == 2


def test_redo_goes_forward_several_steps():
    history = history_of(1, 2, 3)
    history.undo(2)
    assert history.redo(2) == 3


def test_redo_stops_at_the_end():
    history = history_of(1, 2, 3)
    history.undo()
    with pytest.raises(NothingToRedo, match="1 steps ahead, not 2"):
        history.redo(2)


def test_a_new_state_forgets_what_was_undone():
    history = history_of(1, 2, 3)
    history.undo()
    history.record(9)
    assert history.undo() == 2
    assert len(history) == 3


def test_record_is_true_for_a_change():
    assert history_of(1).record(2) is True


def test_record_is_false_without_a_change():
    assert history_of(1, 2).record(2) is False


def test_an_unchanged_state_is_not_remembered():
    assert len(history_of(1, 2, 2)) == 2


def test_an_unchanged_state_keeps_what_was_undone():
    history = history_of(1, 2)
    history.undo()
    history.record(1)
    assert history.can_redo is True


def test_a_history_begins_with_one_state():
    history = history_of(1)
    assert (history.can_undo, history.can_redo) == (False, False)


def test_the_first_step_can_be_undone():
    assert history_of(1, 2).can_undo is True


def test_the_oldest_states_are_forgotten():
    history = history_of(1, 2, 3, 4, limit=3)
    assert history.undo(2) == 2
    assert history.can_undo is False


def test_ten_states_are_remembered_when_not_told():
    history = History(0)
    for number in range(1, 15):
        history.record(number)
    assert len(history) == 10


def test_a_limit_of_one_remembers_nothing():
    assert history_of(1, 2, limit=1).can_undo is False


def test_a_limit_of_zero_is_refused():
    with pytest.raises(ValueError, match="at least one state"):
        History(1, 0)


def test_the_first_state_is_copied():
    state = [1]
    history = History(state)
    state.append(2)
    assert history.current == [1]


def test_recorded_states_are_copied():
    state = [1]
    history = history_of([], state)
    state.append(2)
    assert history.current == [1]


def test_inner_values_are_copied_too():
    state = {"a": [1]}
    history = history_of({}, state)
    state["a"].append(2)
    assert history.current == {"a": [1]}


def test_current_is_a_copy():
    history = history_of([1])
    history.current.append(2)
    assert history.current == [1]


@pytest.fixture
def editor():
    return Editor(["one", "two", "three"])


def test_an_editor_is_empty_when_not_told():
    assert Editor().lines == []


def test_an_editor_copies_its_lines():
    lines = ["one"]
    Editor(lines).insert("two")
    assert lines == ["one"]


def test_the_lines_are_a_copy(editor):
    editor.lines.clear()
    assert editor.lines == ["one", "two", "three"]


def test_a_line_is_put_at_the_end_when_not_told(editor):
    editor.insert("four")
    assert editor.lines == ["one", "two", "three", "four"]


def test_a_line_is_put_before_another(editor):
    editor.insert("zero", 0)
    assert editor.lines == ["zero", "one", "two", "three"]


def test_a_line_may_be_put_after_the_last(editor):
    editor.insert("four", 3)
    assert editor.lines[3] == "four"


def test_no_line_is_put_further_away(editor):
    with pytest.raises(IndexError, match="no place 4"):
        editor.insert("five", 4)


def test_no_line_is_put_before_the_first(editor):
    with pytest.raises(IndexError, match="no place -1"):
        editor.insert("minus", -1)


def test_delete_takes_one_line_when_not_told(editor):
    assert editor.delete(1) == ["two"]
    assert editor.lines == ["one", "three"]


def test_delete_takes_several_lines(editor):
    assert editor.delete(1, 2) == ["two", "three"]
    assert editor.lines == ["one"]


def test_the_first_line_can_be_deleted(editor):
    assert editor.delete(0) == ["one"]


def test_delete_refuses_lines_beyond_the_last(editor):
    with pytest.raises(IndexError, match="no lines 2 to 3"):
        editor.delete(2, 2)


def test_delete_refuses_lines_before_the_first(editor):
    with pytest.raises(IndexError, match="no lines -1 to -1"):
        editor.delete(-1)


def test_replace_changes_all_lines_when_not_told(editor):
    assert editor.replace("t", "T") == 2
    assert editor.lines == ["one", "Two", "Three"]


def test_replace_can_stop_early(editor):
    assert editor.replace("o", "0", most=1) == 1
    assert editor.lines == ["0ne", "two", "three"]


def test_replace_of_an_unknown_text_changes_nothing(editor):
    assert editor.replace("x", "y") == 0
    assert editor.history.can_undo is False


def test_changes_are_undone(editor):
    editor.delete(0)
    editor.insert("four")
    assert editor.undo() == ["two", "three"]


def test_several_changes_are_undone(editor):
    editor.delete(0)
    editor.replace("t", "T")
    assert editor.undo(2) == ["one", "two", "three"]


def test_undone_changes_are_done_again(editor):
    editor.delete(0)
    editor.undo()
    assert editor.redo() == ["two", "three"]


def test_several_changes_are_done_again(editor):
    editor.delete(0)
    editor.delete(0)
    editor.undo(2)
    assert editor.redo(2) == ["three"]


def test_editing_after_undo_leaves_the_history_alone(editor):
    editor.delete(0)
    editor.undo()
    editor.insert("four")
    assert editor.undo() == ["one", "two", "three"]


def test_an_editor_remembers_ten_states_when_not_told():
    assert Editor().history.limit == 10


def test_the_limit_of_an_editor_can_be_told():
    assert Editor(limit=3).history.limit == 3


def test_a_transaction_is_one_step(editor):
    with editor.transaction():
        editor.delete(0)
        editor.insert("four")
    assert editor.lines == ["two", "three", "four"]
    assert editor.undo() == ["one", "two", "three"]


def test_a_failed_transaction_takes_everything_back(editor):
    with pytest.raises(IndexError), editor.transaction():
        editor.delete(0)
        editor.delete(7)
    assert editor.lines == ["one", "two", "three"]


def test_a_failed_transaction_is_no_step(editor):
    with pytest.raises(KeyError), editor.transaction():
        editor.delete(0)
        raise KeyError
    assert editor.history.can_undo is False


def test_changes_after_a_failed_transaction_are_steps(editor):
    with pytest.raises(KeyError), editor.transaction():
        raise KeyError
    editor.delete(0)
    assert editor.undo() == ["one", "two", "three"]


def test_a_transaction_within_another_is_part_of_its_step(editor):
    with editor.transaction():
        editor.delete(0)
        with editor.transaction() as inner:
            inner.delete(0)
    assert editor.undo() == ["one", "two", "three"]
