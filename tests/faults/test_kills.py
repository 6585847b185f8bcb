"""kill -9 of clients, workers and schedulers in every stage: runs end as if nothing had happened.

CURATE_KILLS says how many kills there are in all (200), CURATE_FAULTS_SEED at which moments (0).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from campaign import CURATION, FLOW, left_by, note, problems_of, seconds_of, write_study
from killing import Campaign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = int(os.environ.get("CURATE_KILLS", "200"))
SEED = int(os.environ.get("CURATE_FAULTS_SEED", "0"))
LOCAL = ("cluster.kind=local", "cluster.workers=2")
LATE = ("train/", "eval/", "overlap", "report")
"""Steps of the whole study in which to kill; the others are those of curation alone."""
PROCESS = ("cluster.kind=process",)

pytestmark = pytest.mark.slow


def share(of_200: int) -> int:
    """So many kills of 200, of as many as there are."""
    return max(1, round(of_200 * KILLS / 200))


def begin(folder: Path, flow: dict[str, Any], seed: int) -> Campaign:
    """A study that ran once undisturbed."""
    study = write_study(folder, flow)
    done = study.run(folder / "undisturbed", *PROCESS)
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed = folder / "undisturbed"
    assert not problems_of(undisturbed)
    seconds = {
        name: taken
        for name, taken in seconds_of(undisturbed).items()
        if "train" not in flow or name.startswith(LATE)
    }
    return Campaign(study, left_by(undisturbed), seconds, SEED * 10 + seed)


@pytest.fixture(scope="module")
def curation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """Embedding to pages."""
    yield from _told(begin(tmp_path_factory.mktemp("curation"), CURATION, 1), "curation")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """With training and evaluation."""
    yield from _told(begin(tmp_path_factory.mktemp("whole"), FLOW, 2), "whole")


def _told(campaign: Campaign, name: str) -> Iterator[Campaign]:
    start = time.perf_counter()
    yield campaign
    note(name, {**campaign.tally.to_json(), "seconds": round(time.perf_counter() - start)})


def test_a_client_that_is_killed_goes_on_where_it_was(curation: Campaign) -> None:
    curation.kill_clients("client", share(86), *PROCESS)


def test_a_client_that_is_killed_takes_its_workers_with_it(curation: Campaign) -> None:
    curation.kill_clients("client", share(14), *LOCAL)


def test_a_client_that_is_killed_with_its_workers_goes_on(curation: Campaign) -> None:
    curation.kill_clients("group", share(14), *LOCAL)


def test_workers_that_are_killed_are_replaced(curation: Campaign) -> None:
    curation.kill_workers(share(32), *LOCAL)


def test_a_scheduler_that_is_killed_and_comes_back_is_found_again(curation: Campaign) -> None:
    curation.kill_cluster(share(18), share(12))


def test_training_and_evaluation_go_on_after_the_client_was_killed(whole: Campaign) -> None:
    whole.kill_clients("client", share(8), *PROCESS)


def test_training_and_evaluation_go_on_after_all_was_killed(whole: Campaign) -> None:
    whole.kill_clients("group", share(5), *LOCAL)


def test_training_and_evaluation_bear_the_loss_of_workers(whole: Campaign) -> None:
    whole.kill_workers(share(7), *LOCAL)


def test_training_and_evaluation_bear_the_loss_of_the_scheduler(whole: Campaign) -> None:
    whole.kill_cluster(share(2), share(2))
