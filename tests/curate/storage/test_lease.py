"""One writer at a time: renewed while it lives, free some time after it has died."""

import json
import time

import pytest
from failing_store import FailingStore

from curate.errors import CurateError, PartialRunError
from curate.storage.lease import LOCK, Lease
from curate.storage.objects import Objects

URL = "failing://b/run"
FAST = (0.0, 0.0)


def objects() -> Objects:
    return Objects(URL, FAST)


def held() -> dict[str, object] | None:
    data = objects().read(LOCK)
    return None if data is None else dict(json.loads(data))


def test_a_lock_says_who_has_it_and_goes_at_the_end(store: type[FailingStore]) -> None:
    with Lease(objects(), "me") as lease:
        lease.check()
        found = held()
        assert found is not None
        assert found["owner"] == "me"
    assert held() is None


def test_another_is_told_who_and_for_how_long(store: type[FailingStore]) -> None:
    with (
        Lease(objects(), "me"),
        pytest.raises(CurateError, match=r"process \d+ on .* is writing there.*in \d+ seconds"),
        Lease(objects(), "other"),
    ):
        pass


def test_a_lock_is_renewed_as_long_as_its_writer_lives(store: type[FailingStore]) -> None:
    with Lease(objects(), "me", seconds=0.3):
        time.sleep(0.6)
        with pytest.raises(CurateError, match="is writing there"), Lease(objects(), "other"):
            pass


def test_a_lock_of_a_dead_writer_expires(store: type[FailingStore]) -> None:
    gone = {"owner": "dead", "host": "h", "process": 1, "until": time.time() - 1}
    objects().write(LOCK, json.dumps(gone).encode())
    with Lease(objects(), "me") as lease:
        lease.check()


def test_a_writer_that_lost_its_lock_learns_it_and_leaves_the_other_in_peace(
    store: type[FailingStore],
) -> None:
    other = {"owner": "other", "host": "far", "process": 7, "until": time.time() + 60}
    with Lease(objects(), "me", seconds=0.3) as lease:
        objects().write(LOCK, json.dumps(other).encode())
        time.sleep(0.3)
        with pytest.raises(PartialRunError, match="process 7 on far has it now"):
            lease.check()
    assert held() == other


def test_a_damaged_lock_keeps_nobody_out(store: type[FailingStore]) -> None:
    for data in (b"no json", b"[]", b'{"owner": 1}'):
        objects().write(LOCK, data)
        with Lease(objects(), "me") as lease:
            lease.check()


def test_a_store_that_fails_for_a_while_does_not_end_a_lease(store: type[FailingStore]) -> None:
    with Lease(objects(), "me", seconds=0.6) as lease:
        store.dies_at, store.error = len(store.calls), ConnectionError
        time.sleep(0.4)
        store.dies_at = None
        time.sleep(0.3)
        lease.check()
