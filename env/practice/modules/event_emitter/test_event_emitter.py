import pytest

from event_emitter import Emitter, Listener, Stop


@pytest.fixture
def emitter():
    return Emitter()


@pytest.fixture
def log():
    return []


def stop():
    raise Stop


def test_a_handler_gets_the_arguments(emitter):
    emitter.on("sum", lambda left, right=0: left - right)
    assert emitter.emit("sum", 5, right=2) == [3]


def test_an_event_without_listeners_has_no_results(emitter):
    assert emitter.emit("sum", 5) == []


def test_other_events_are_not_handled(emitter):
    emitter.on("open", lambda: 1)
    assert emitter.emit("close") == []


def test_results_are_in_order_of_arrival(emitter):
    emitter.on("open", lambda: "first")
    emitter.on("open", lambda: "second")
    assert emitter.emit("open") == ["first", "second"]


def test_higher_priorities_come_first(emitter):
    emitter.on("open", lambda: "low", priority=1)
    emitter.on("open", lambda: "high", priority=2)
    assert emitter.emit("open") == ["high", "low"]


def test_priority_is_zero_when_not_told(emitter):
    emitter.on("open", lambda: "below", priority=-1)
    emitter.on("open", lambda: "above", priority=1)
    emitter.on("open", lambda: "middle")
    assert emitter.emit("open") == ["above", "middle", "below"]


def test_a_handler_stays(emitter):
    emitter.on("open", lambda: 1)
    emitter.emit("open")
    assert emitter.emit("open") == [1]


def test_a_once_handler_goes_after_its_call(emitter):
    emitter.once("open", lambda: 1)
    assert [emitter.emit("open"), emitter.emit("open")] == [[1], []]


def test_a_once_handler_is_gone_while_it_runs(emitter):
    emitter.once("open", lambda: emitter.emit("open"))
    assert emitter.emit("open") == [[]]


def test_on_returns_a_function_that_removes_the_handler(emitter):
    remove = emitter.on("open", lambda: 1)
    remove()
    assert emitter.emit("open") == []


def test_removing_twice_is_no_error(emitter):
    emitter.on("open", lambda: 2)
    remove = emitter.on("open", lambda: 3)
    remove()
    remove()
    assert emitter.emit("open") == [2]


def test_a_once_handler_can_be_removed(emitter):
    emitter.once("open", lambda: 1)()
    assert emitter.emit("open") == []


def test_a_handler_must_be_callable(emitter):
    with pytest.raises(TypeError, match="must be callable"):
        emitter.on("open", "print")


def test_there_are_ten_listeners_at_most_when_not_told(emitter):
    for _ in range(10):
        emitter.on("open", stop)
    with pytest.raises(OverflowError, match="more than 10 listeners"):
        emitter.on("open", stop)


def test_the_decorator_adds_the_function(emitter):
    @emitter.handles("open")
    def answer():
        return 42

    assert emitter.emit("open") == [42]


def test_the_decorator_leaves_the_function_as_it_is(emitter):
    assert emitter.handles("open")(stop) is stop


def test_the_decorator_takes_a_priority(emitter):
    emitter.handles("open")(lambda: "low")
    emitter.handles("open", 5)(lambda: "high")
    assert emitter.emit("open") == ["high", "low"]


def test_the_decorator_has_priority_zero_when_not_told(emitter):
    emitter.on("open", lambda: "plain")
    emitter.handles("open")(lambda: "decorated")
    emitter.on("open", lambda: "plain too")
    assert emitter.emit("open") == ["plain", "decorated", "plain too"]


def test_a_star_wants_all_events_with_the_prefix():
    assert Listener("user.*", stop).wants("user.login") is True


def test_a_star_does_not_want_other_events():
    assert Listener("user.*", stop).wants("users") is False


def test_a_lone_star_wants_everything():
    assert Listener("*", stop).wants("open") is True


def test_a_plain_name_wants_no_longer_name():
    assert Listener("user", stop).wants("user.login") is False


def test_a_listener_has_no_priority_and_stays_when_not_told():
    listener = Listener("open", stop)
    assert (listener.priority, listener.once) == (0, False)


def test_stop_keeps_later_handlers_from_being_called(emitter):
    emitter.on("open", lambda: 1)
    emitter.on("open", stop)
    emitter.on("open", lambda: 3)
    assert emitter.emit("open") == [1]


def test_other_errors_are_passed_on(emitter):
    emitter.on("open", lambda: {}["missing"])
    with pytest.raises(KeyError):
        emitter.emit("open")


def test_events_are_counted(emitter):
    emitter.emit("open")
    emitter.emit("open")
    emitter.emit("close")
    assert emitter.counts == {"open": 2, "close": 1}


def test_clear_takes_away_the_listeners_of_an_event(emitter):
    emitter.on("open", lambda: 1)
    emitter.on("close", lambda: 2)
    assert emitter.clear("open") == 1
    assert emitter.emit("close") == [2]


def test_clear_takes_away_all_listeners_when_not_told(emitter):
    emitter.on("open", stop)
    emitter.on("close", stop)
    assert emitter.clear() == 2


def test_clear_of_an_unknown_event_takes_nothing(emitter):
    emitter.on("open", stop)
    assert emitter.clear("close") == 0


def test_a_pause_holds_events_back(emitter, log):
    emitter.on("open", log.append)
    with emitter.paused():
        assert emitter.emit("open", 1) == []
        assert log == []
    assert log == [1]


def test_held_events_keep_their_order_and_options(emitter, log):
    emitter.on("*", lambda number, name="": log.append((number, name)))
    with emitter.paused():
        emitter.emit("open", 1, name="a")
        emitter.emit("close", 2)
    assert log == [(1, "a"), (2, "")]


def test_only_the_outermost_pause_lets_events_go(emitter, log):
    emitter.on("open", log.append)
    with emitter.paused():
        with emitter.paused():
            emitter.emit("open", 1)
        assert log == []
    assert log == [1]


def test_held_events_are_emitted_once(emitter, log):
    emitter.on("open", log.append)
    with emitter.paused():
        emitter.emit("open", 1)
    with emitter.paused():
        emitter.emit("open", 2)
    assert log == [1, 2]


def test_a_pause_ends_with_an_error(emitter, log):
    emitter.on("open", log.append)
    with pytest.raises(ZeroDivisionError), emitter.paused():
        raise ZeroDivisionError
    emitter.emit("open", 3)
    assert log == [3]
