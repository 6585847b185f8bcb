"""Working in a stored folder: reused elsewhere, whole or absent whenever a writer dies."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from failing_store import FailingStore, Killed, contents, recover
from servers import web_server
from stored_runs import make, tree

from curate.errors import CurateError, GateError, PartialRunError
from curate.files import write_bytes, write_json
from curate.storage import publish, stored, verify_stored, with_addresses
from curate.storage.lease import LOCK, Lease
from curate.storage.objects import Objects
from curate.storage.snapshot import UNFINISHED

RUN = "failing://bucket/run"
FAST = (0.0, 0.0)


def first_version(folder: Path) -> None:
    make(folder, "splits/a", "one", files=3)
    make(folder, "matches/b", "two")
    write_json(folder / "run.json", {"split": "splits/a"})
    write_bytes(folder / "flow" / "step" / "log.txt", b"first\n")


def second_version(folder: Path) -> None:
    make(folder, "splits/a", "changed", files=2)
    make(folder, "splits/c", "new")
    write_json(folder / "run.json", {"split": "splits/c"})
    (folder / "flow" / "step" / "log.txt").unlink(missing_ok=True)


def work(run: str = RUN, *versions: Callable[[Path], None]) -> None:
    with stored(run, FAST) as folder:
        for version in versions or (first_version,):
            version(folder)


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "elsewhere") -> None:
    """From now on this is another machine."""
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / name))


def expire() -> None:
    """Time has passed since a writer died."""
    FailingStore.store.pop(f"/bucket/run/{LOCK}", None)


def test_a_local_folder_is_given_as_it_is(tmp_path: Path) -> None:
    with stored(tmp_path / "run") as folder:
        assert folder == tmp_path / "run"
        assert publish(folder)
    assert not folder.exists()


def test_a_run_arrives_whole_with_manifests_and_without_remains(store: type[FailingStore]) -> None:
    with stored(RUN) as folder:
        first_version(folder)
        write_bytes(folder / ".lock", b"")
        write_bytes(folder / "x.tmp", b"")
        write_bytes(folder / ".c.123.partial" / "y", b"")
    assert folder.name == "run"
    assert {n.removeprefix("/bucket/run/"): d for n, d in contents().items()} == tree_without_tmp(
        folder
    )
    assert verify_stored(RUN)[1] == []
    hidden = {name.rpartition("/")[2] for name in store.store} - {
        name.rpartition("/")[2] for name in contents()
    }
    assert hidden == {".curate-store.json"}


def tree_without_tmp(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(folder).items() if not name.endswith(".tmp")}


def test_another_machine_finds_it_and_makes_nothing_again(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work()
    before = contents()
    elsewhere(tmp_path, monkeypatch)
    with stored(RUN) as folder:
        assert {f"/bucket/run/{n}": d for n, d in tree(folder).items()} == before
        assert not make(folder, "splits/a", "one", files=3)
    assert contents() == before


def test_nothing_that_is_there_is_sent_again(store: type[FailingStore]) -> None:
    work()
    store.calls.clear()
    with stored(RUN) as folder:
        assert not make(folder, "splits/a", "one", files=3)
    assert "put_file" not in store.calls
    assert "open" not in store.calls


def test_a_changed_run_takes_the_place_of_the_old_one(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(RUN, first_version)
    work(RUN, second_version)
    changed = contents()
    assert verify_stored(RUN)[1] == []
    assert "/bucket/run/splits/a/part_2.bin" not in changed
    assert "/bucket/run/flow/step/log.txt" not in changed
    elsewhere(tmp_path, monkeypatch)
    with stored(RUN) as folder:
        assert {f"/bucket/run/{n}": d for n, d in tree(folder).items()} == changed


def test_the_manifest_goes_first_and_comes_last(
    store: type[FailingStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(RUN, first_version)
    seen: list[tuple[str, bool]] = []
    inner = FailingStore.put_file

    def put(self: FailingStore, local: str, remote: str, **more: object) -> None:
        inner(self, local, remote, **more)
        seen.append((remote, "/bucket/run/splits/a/manifest.json" in FailingStore.store))

    monkeypatch.setattr(FailingStore, "put_file", put)
    work(RUN, second_version)
    of_a = [(name, there) for name, there in seen if "/splits/a/" in name]
    assert [there for _, there in of_a] == [False] * (len(of_a) - 1) + [True]
    assert of_a[-1][0].endswith("splits/a/manifest.json")


def test_a_run_that_ends_early_keeps_what_is_finished(store: type[FailingStore]) -> None:
    for error in (PartialRunError, GateError):

        def stop(folder: Path, error: type[CurateError] = error) -> None:
            make(folder, "splits/a", error.__name__)
            raise error("later")

        with pytest.raises(error, match="later"):
            work(RUN, stop)
        assert verify_stored(RUN) == ([f"{RUN}/splits/a"], [])


def test_what_a_stage_takes_back_to_work_stays_there_until_it_is_done(
    store: type[FailingStore],
) -> None:
    def reopen(folder: Path) -> None:
        (folder / "splits" / "a").rename(folder / "splits" / ".a.123.partial")
        raise PartialRunError("later")

    work()
    with pytest.raises(PartialRunError):
        work(RUN, reopen)
    assert f"{RUN}/splits/a" in verify_stored(RUN)[0]


def test_bad_use_publishes_nothing(store: type[FailingStore]) -> None:
    def misuse(folder: Path) -> None:
        make(folder, "splits/a", "one")
        raise CurateError("bad")

    with pytest.raises(CurateError, match="bad"):
        work(RUN, misuse)
    assert contents() == {}
    work()
    assert verify_stored(RUN)[1] == []


def test_what_is_finished_can_be_published_meanwhile(store: type[FailingStore]) -> None:
    with stored(RUN, FAST) as folder:
        make(folder, "splits/a", "one")
        assert publish(folder)
        assert verify_stored(RUN)[1] == []
        make(folder, "splits/b", "two")
        store.dies_at, store.error = len(store.calls), ConnectionError
        assert not publish(folder)
        recover()
    assert len(verify_stored(RUN)[0]) == 2


# --- two writers ----------------------------------------------------------------------------------


def test_one_writer_at_a_time_has_an_address(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stored(RUN):
        with pytest.raises(CurateError, match="another process of this machine"), stored(RUN):
            pass
        elsewhere(tmp_path, monkeypatch)
        with pytest.raises(CurateError, match=r"is writing there.*expires in \d+ seconds"):
            work()
    work()


def test_the_successor_on_the_same_machine_need_not_wait(store: type[FailingStore]) -> None:
    work()
    store.dies_at = len(store.calls) + 30
    with pytest.raises(Killed):
        work(RUN, second_version)
    recover()
    assert f"/bucket/run/{LOCK}" in store.store
    work(RUN, second_version)
    assert verify_stored(RUN)[1] == []


def test_who_lost_the_lock_publishes_nothing(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs: dict[str, bytes] = {}

    def lose(folder: Path) -> None:
        make(folder, "splits/a", "one")
        expire()
        elsewhere(tmp_path, monkeypatch)
        work(RUN, second_version)
        theirs.update(contents())

    with pytest.raises(PartialRunError, match="lost its lock"):
        work(RUN, lose)
    assert contents() == theirs


def test_what_another_made_since_counts_more(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work()
    elsewhere(tmp_path, monkeypatch)
    work(RUN, second_version)
    elsewhere(tmp_path, monkeypatch, "cache")
    with stored(RUN) as folder:
        assert not make(folder, "splits/a", "changed", files=2)
    assert verify_stored(RUN)[1] == []


def test_what_was_not_yet_published_is_not_overwritten(store: type[FailingStore]) -> None:
    def lose_the_store(folder: Path) -> None:
        second_version(folder)
        store.dies_at, store.error = len(store.calls), ConnectionError

    work()
    with pytest.raises(PartialRunError):
        work(RUN, lose_the_store)
    recover()
    with stored(RUN) as folder:
        assert not make(folder, "splits/a", "changed", files=2)


# --- a writer that dies ---------------------------------------------------------------------------


def undisturbed(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, bytes], int]:
    elsewhere(tmp_path, monkeypatch, "undisturbed")
    work(RUN, first_version)
    store.calls.clear()
    work(RUN, second_version)
    expected, calls = contents(), len(store.calls)
    store.store.clear()
    return expected, calls


def fresh_first_version(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.store.clear()
    recover()
    elsewhere(tmp_path, monkeypatch, f"machine-{number}")
    work(RUN, first_version)
    store.calls.clear()


STEPS = [9, pytest.param(1, marks=pytest.mark.slow)]
"""Of the calls at which something goes wrong, each ninth; or each."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_artifacts_are_whole_or_absent_and_the_same_command_goes_on(
    store: type[FailingStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
    step: int,
) -> None:
    expected, calls = undisturbed(store, tmp_path, monkeypatch)
    assert calls > 40
    for number in range(0, calls, step):
        fresh_first_version(store, tmp_path, monkeypatch, number)
        store.dies_at, store.after = number, after
        with pytest.raises(Killed):
            work(RUN, second_version)
        recover()
        assert no_difference(), number
        if number % 2:  # another machine goes on, when the lock has expired
            expire()
            elsewhere(tmp_path, monkeypatch, f"other-{number}")
        work(RUN, second_version)
        assert contents() == expected, number
        assert verify_stored(RUN)[1] == []
        assert not any(UNFINISHED in name for name in store.store)


def no_difference() -> bool:
    """Every artifact that counts is whole; what is half sent says so."""
    try:
        problems = verify_stored(RUN)[1]
    except CurateError as error:
        return "no artifact" in str(error)
    return all(problem.endswith("half sent") for problem in problems)


@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_call_is_tried_again(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    expected, calls = undisturbed(store, tmp_path, monkeypatch)
    for number in range(0, calls, step):
        fresh_first_version(store, tmp_path, monkeypatch, number)
        store.dies_at, store.error, store.once = number, ConnectionError, True
        work(RUN, second_version)
        recover()
        assert contents() == expected


@pytest.mark.parametrize("step", STEPS)
def test_a_store_that_fails_at_any_call_and_stays_away_ends_it_with_what_is_safe(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    expected, calls = undisturbed(store, tmp_path, monkeypatch)
    told = 0
    for number in range(0, calls, step):
        fresh_first_version(store, tmp_path, monkeypatch, number)
        store.dies_at, store.error = number, ConnectionError
        try:
            work(RUN, second_version)
        except PartialRunError as error:
            told += "is kept in" in str(error) and "the same command goes on" in str(error)
        recover()
        assert no_difference(), number
        work(RUN, second_version)
        assert contents() == expected
    assert told >= len(range(0, calls, step)) - 2  # giving back the lock may fail unnoticed


# --- what is refused ------------------------------------------------------------------------------


def test_a_web_server_is_read_only(tmp_path: Path) -> None:
    with web_server(tmp_path) as (address, _), pytest.raises(CurateError, match="read-only"):
        work(f"{address}/run")


def test_an_address_with_other_things_is_left_alone(store: type[FailingStore]) -> None:
    files = fsspec.filesystem("failing")
    files.pipe_file("/bucket/run/holiday.jpg", b"mine")
    with pytest.raises(CurateError, match=r"other things.*holiday\.jpg"):
        work()
    assert contents() == {"/bucket/run/holiday.jpg": b"mine"}


def test_a_copied_run_is_taken_for_one(store: type[FailingStore]) -> None:
    fsspec.filesystem("failing").pipe_file("/bucket/run/run.json", b"{}")
    work()
    assert verify_stored(RUN)[1] == []


def test_what_was_altered_in_the_store_is_not_used(
    store: type[FailingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work()
    name = "/bucket/run/splits/a/part_0.bin"
    data = contents()[name]
    files = fsspec.filesystem("failing")
    files.pipe_file(name, b"x" + data[1:])
    assert verify_stored(RUN)[1] == [
        f"{RUN}/splits/a/part_0.bin: altered (its SHA-256 is not the one that was written)"
    ]
    elsewhere(tmp_path, monkeypatch)
    with pytest.raises(CurateError, match=r"part_0\.bin: altered .*made again"):
        work()
    files.rm_file("/bucket/run/splits/a/manifest.json")
    work()
    assert verify_stored(RUN)[1] == []


def test_what_was_altered_here_is_not_sent(store: type[FailingStore]) -> None:
    def alter(folder: Path) -> None:
        make(folder, "splits/a", "one")
        (folder / "splits" / "a" / "part_0.bin").write_bytes(b"other")

    with pytest.raises(CurateError, match=r"part_0\.bin: altered"):
        work(RUN, alter)
    assert "/bucket/run/splits/a/manifest.json" not in contents()


def test_hostile_names_in_a_store_lead_nowhere(store: type[FailingStore], cache: Path) -> None:
    work()
    for name in ("/bucket/run/../../x", "/bucket/run//etc/x", "/bucket/run/a\nb"):
        FailingStore.store[name] = FailingStore.store["/bucket/run/run.json"]
        with pytest.raises(CurateError, match="can be no file's"):
            work()
        FailingStore.store.pop(name)
    work()


def test_people_are_told_addresses_and_not_working_folders(store: type[FailingStore]) -> None:
    with stored(RUN) as folder:
        pass
    assert with_addresses(f"split {folder}/splits/a") == f"split {RUN}/splits/a"


# --- at once --------------------------------------------------------------------------------------


def test_of_several_writers_at_once_the_store_lets_one_in(bucket: str) -> None:
    url = f"{bucket}/contested"
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            with Lease(Objects(url, FAST), f"writer-{number}"):
                time.sleep(0.5)
            outcomes.append("done")
        except CurateError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("done") == 1
