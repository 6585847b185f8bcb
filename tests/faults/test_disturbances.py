"""Full disks, read-only folders, damage, clocks that jump, paused workers, units that run twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from campaign import BRIEF, FLOW, Study, differences, left_by, problems_of, write_study
from dask_processes import until, workers_of
from deduping import run, write_sets
from evaluating import asked, measure, rows_of, write_test_set
from killing import expect_an_exact_list
from pictures import tree

from curate.errors import CurateError
from curate.units import Outcome, run_in_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOCAL = ("cluster.kind=local", "cluster.workers=2")
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = write_study(tmp_path_factory.mktemp("brief"), BRIEF)
    done = study.run(study.folder / "undisturbed")
    assert done.returncode == 0, done.stdout + done.stderr
    return study


@pytest.fixture(scope="module")
def expected(brief: Study) -> dict[str, str]:
    return left_by(brief.folder / "undisturbed")


def text_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def expect_no_traceback(done: subprocess.CompletedProcess[str], *codes: int) -> None:
    assert done.returncode in codes, text_of(done)
    assert "Traceback" not in text_of(done)


# --- disks ----------------------------------------------------------------------------------------


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", *options, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@NEEDS_ROOT
@pytest.mark.slow
@pytest.mark.parametrize("kibibytes", [12, 100, 160, 260])
def test_a_full_disk_ends_a_run_in_words_and_with_more_space_it_goes_on(
    brief: Study, expected: dict[str, str], tmp_path: Path, kibibytes: int
) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", f"size={kibibytes}k", "curate-test"):
        done = brief.run(disk / "run")
        smallest = kibibytes == 12  # too small for the first line of the ledger
        expect_no_traceback(done, *((2, 3) if smallest else (3,)))
        assert "No space left" in text_of(done)
        assert "Free space" in text_of(done)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        expect_no_traceback(brief.run(disk / "run"), 0)
        assert not differences(left_by(disk / "run"), expected)


@NEEDS_ROOT
@pytest.mark.slow
def test_a_folder_that_turns_read_only_ends_a_run_in_words(
    brief: Study, expected: dict[str, str], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    out = disk / "run"
    with mounted(disk, "-t", "tmpfs", "-o", "size=64m", "curate-test"):
        process = brief.start(brief.words(out), tmp_path / "log")
        until((out / "embeddings").is_dir, 60)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False)
        code = process.wait(120)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        log = (tmp_path / "log").read_text()
        assert code in (0, 3), log  # 0: it was done before the disk could be remounted
        assert "Traceback" not in log
        expect_no_traceback(brief.run(out), 0)
        assert not differences(left_by(out), expected)


@NEEDS_ROOT
def test_a_folder_that_cannot_be_written_is_named(brief: Study, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "ro,size=1m", "curate-test"):
        done = brief.run(disk / "run")
    expect_no_traceback(done, 2)
    assert str(disk) in text_of(done).replace("\n", "")
    assert "Give another --out" in text_of(done)


# --- shards ---------------------------------------------------------------------------------------


def cut_off(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """Other bytes in the middle; the size stays."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 0xFF]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut_off, empty])
def test_damaged_shards_are_named_and_mended_ones_give_the_undisturbed_result(
    brief: Study, expected: dict[str, str], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    study = write_study(tmp_path / "study", BRIEF)
    out = tmp_path / "run"
    shards = [study.folder / "train" / "00001.tar", study.folder / "set" / "test" / "2.tar"]
    whole = {path: path.read_bytes() for path in shards}
    for path in shards:
        damage(path)
    done = study.run(out)
    expect_no_traceback(done, 3)
    lines = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("damaged")]
    assert lines == ["pictures-test/test/2:", "pictures-train/00001:"]
    for path, data in whole.items():
        path.write_bytes(data)
    expect_no_traceback(study.run(out), 0)
    assert not differences(left_by(out), expected)


# --- what was made --------------------------------------------------------------------------------

PARTS = (
    "embeddings/pictures-train/builtin-layout/img_emb/img_emb_000001.npy",
    "embeddings/pictures-test/builtin-layout-views/metadata/metadata_000000.parquet",
    "dedup/copies/matches/pictures-test-vs-pictures-train/pairs.parquet",
    "dedup/copies/splits/pictures-test-at-0.8/clean/test/1.tar",
    "dedup/copies/splits/pictures-test-at-0.9/decisions.parquet",
    "dedup/copies/report/index.html",
    "report/index.html",
)


@pytest.mark.slow
def test_files_that_were_cut_or_removed_are_made_again(
    brief: Study, expected: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(brief.folder / "undisturbed", out)
    for number, part in enumerate(PARTS):
        cut_off(out / part) if number % 2 else (out / part).unlink()
    expect_no_traceback(brief.run(out), 0)
    assert not differences(left_by(out), expected)
    assert not problems_of(out)


@pytest.mark.slow
def test_files_that_were_altered_are_named_by_verify_and_made_again_once_removed(
    brief: Study, expected: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(brief.folder / "undisturbed", out)
    for part in PARTS:
        overwrite(out / part)
    verify = [*brief.words(out)[:3], "verify", str(out), "--json"]
    told = brief.call(verify)
    expect_no_traceback(told, 1)
    problems = problems_of(out)
    assert sorted(problems) == sorted(
        f"{out / part}: altered (its SHA-256 is not the one that was written)" for part in PARTS
    )
    assert all(part in text_of(told) for part in PARTS)
    for part in PARTS:
        (out / part).unlink()
    expect_no_traceback(brief.run(out), 0)
    assert not differences(left_by(out), expected)


def stopping_after(count: int) -> Any:
    """Runs so many units, then is interrupted as by a key."""

    def run_units(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            yield from run_in_process(function, [unit])

    left = list(range(count))
    return run_units


@pytest.mark.parametrize("stopped_after", [1, 3, 5])
def test_parts_that_were_cut_while_a_run_was_interrupted_are_made_again(
    tmp_path: Path, stopped_after: int
) -> None:
    sets = write_sets(tmp_path / "sets")
    run(sets, tmp_path / "whole")
    with suppress(KeyboardInterrupt):
        run(sets, tmp_path / "run", stopping_after(stopped_after))
    parts = [
        path
        for folder in (tmp_path / "run").rglob(".*.partial")
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".npy", ".parquet", ".tar")
    ]
    assert parts
    for part in parts:
        cut_off(part)
    run(sets, tmp_path / "run")
    assert tree(tmp_path / "run") == tree(tmp_path / "whole")


@pytest.mark.slow
def test_a_model_and_rows_that_were_cut_are_made_again(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", FLOW)
    out = tmp_path / "run"
    expect_no_traceback(study.run(out), 0)
    before = left_by(out)
    for part in (
        "train/tuned/open_clip_model.safetensors",
        "eval/builtin-tiny-clip/mine/samples.parquet",
        "eval/tuned/mine@fgsm.eps4.input/summary.json",
        "overlap/overlap.json",
        "dedup/copies/calibration/planted.parquet",
        "indices/pictures-train/builtin-layout-flat/index.faiss",
    ):
        cut_off(out / part)
    expect_no_traceback(study.run(out), 0)
    assert not differences(left_by(out), before)


# --- clocks ---------------------------------------------------------------------------------------

JUMPING = """
import time
_real, _monotonic = time.time, time.monotonic
_hours = (0, 5, -7, 26, -1)
time.time = lambda: _real() + 3600 * _hours[int(_monotonic() / {period}) % len(_hours)]
"""


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), LOCAL], ids=["process", "local"])
def test_a_clock_that_jumps_by_hours_shows_in_no_artifact(
    brief: Study, expected: dict[str, str], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(JUMPING.format(period=0.7))
    out = tmp_path / "run"
    paths = os.pathsep.join([str(hook), str(Path(__file__).parents[2])])
    done = brief.run(out, *settings, environment={"PYTHONPATH": paths})
    expect_no_traceback(done, 0, 3)
    if done.returncode:
        expect_an_exact_list(out)
        expect_no_traceback(brief.retry(out), 0)
    assert not differences(left_by(out), expected)


# --- paused workers -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [6, None], ids=["for a while", "for good"])
def test_a_worker_that_is_paused_holds_up_nothing_for_long(
    brief: Study, expected: dict[str, str], tmp_path: Path, seconds: float | None
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    process = brief.start(brief.words(out, *LOCAL), log)
    try:
        assert until(lambda: any(out.rglob("img_emb_*.npy")), 120)
        paused = workers_of(process.pid)[0]
        paused.suspend()
        if seconds is not None:
            time.sleep(seconds)
            paused.resume()
        code = process.wait(300)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert code == 0, log.read_text()
    assert not differences(left_by(out), expected)
    assert not psutil.pid_exists(paused.pid) or not paused.is_running()


# --- units that run twice -------------------------------------------------------------------------


def once(function: Callable[[Any], Any], unit: Any) -> Outcome:
    try:
        return Outcome(unit, function(unit))
    except CurateError as error:
        return Outcome(unit, error=str(error))


def twice(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
    """Run each unit in two processes at the same time; the first to end is the one that counts."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for unit in units:
            both = [pool.submit(partial(once, function), unit) for _ in range(2)]
            found = [one.result() for one in both]
            yield found[0]
            yield from ()


@pytest.mark.slow
def test_units_that_run_twice_at_once_leave_what_they_leave_once(tmp_path: Path) -> None:
    sets = write_sets(tmp_path / "sets")
    run(sets, tmp_path / "once", write=("clean", "overlap", "control"))
    run(sets, tmp_path / "twice", twice, write=("clean", "overlap", "control"))
    assert tree(tmp_path / "twice") == tree(tmp_path / "once")


@pytest.mark.slow
def test_pieces_of_an_evaluation_that_run_twice_count_once(tmp_path: Path) -> None:
    folder = write_test_set(tmp_path / "set", 12)
    words = ("mine", "mine@fgsm.eps4.input")
    measure(asked(folder, tmp_path / "once", *words))
    measure(asked(folder, tmp_path / "twice", *words), twice)
    assert rows_of(tmp_path / "twice") == rows_of(tmp_path / "once")
    summaries = [
        json.loads((tmp_path / name / words[1] / "summary.json").read_bytes())
        for name in ("once", "twice")
    ]
    assert summaries[0] == summaries[1]
