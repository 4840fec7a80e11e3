"""How long a request is tried again."""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from srft.agent.models.patience import Patience, retry_after_s


def patience(*, retry_s=0.2, max_retries=None, stop=None):
    return Patience(retry_s=retry_s, max_retries=max_retries, stop=stop)


def test_the_number_of_tries_is_bounded():
    one = patience(retry_s=60, max_retries=2)
    assert [one.waits(0.0), one.waits(0.0), one.waits(0.0)] == [True, True, False]
    assert one.tried.startswith("after 2 retries in ")


def test_the_time_is_bounded():
    one = patience()
    assert one.waits()
    time.sleep(0.2)
    assert not one.waits()
    assert not patience(retry_s=0).waits()


def test_a_pause_longer_than_the_time_left_is_not_begun():
    one = patience(retry_s=60)
    assert not one.waits(3600.0)
    assert one.tried == ("it asks for a pause of 3600 s, which is more than retry_s leaves")


def test_a_stop_ends_the_pause():
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert not patience(retry_s=600, stop=stop).waits(500.0)


def test_retry_after_as_seconds_or_as_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 95 < retry_after_s({"retry-after": later}) <= 100
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0.0
    assert retry_after_s({"retry-after": "soon"}) is None
