"""kill -9 of clients, workers and schedulers in every stage: runs end as if nothing had happened.

CURATE_KILLS says how many kills there are in all (240), CURATE_FAULTS_SEED at which moments (0).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from campaign import CURATION, FLOW, INGEST, left_by, note, problems_of, seconds_of, write_study
from evalset_trees import write_texts
from image_server import image_server
from killing import Campaign
from pictures import encoded, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = int(os.environ.get("CURATE_KILLS", "240"))
SEED = int(os.environ.get("CURATE_FAULTS_SEED", "0"))
LOCAL = ("cluster.kind=local", "cluster.workers=2")
WHERE = {
    "ingest": ("demo", "download/"),
    "curation": ("",),
    "whole": ("train/", "eval/", "overlap", "report"),
}
"""Beginnings of the steps of each study in which to kill; what others share is left to curation."""
PROCESS = ("cluster.kind=process",)

pytestmark = pytest.mark.slow


def share(of_240: int) -> int:
    """So many kills of 240, of as many as there are."""
    return max(1, round(of_240 * KILLS / 240))


def begin(folder: Path, flow: dict[str, Any], name: str) -> Campaign:
    """A study that ran once undisturbed."""
    study = write_study(folder, flow)
    done = study.run(folder / "undisturbed", *PROCESS)
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed = folder / "undisturbed"
    assert not problems_of(undisturbed)
    seconds = {
        step: taken
        for step, taken in seconds_of(undisturbed).items()
        if step.startswith(WHERE[name])
    }
    return Campaign(study, left_by(undisturbed), seconds, SEED * 10 + list(WHERE).index(name))


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """What comes before embedding."""
    pytest.importorskip("img2dataset")
    folder = tmp_path_factory.mktemp("ingest")
    with image_server() as server:
        server.pictures |= {f"/train/{n}": encoded(picture(n)) for n in range(40)}
        listed = [f"{server.address}{path}" for path in [*server.pictures, "/missing"]]
        write_texts(folder, {"urls.txt": "\n".join(listed)})
        yield from _told(begin(folder, INGEST, "ingest"), "ingest")


@pytest.fixture(scope="module")
def curation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """Embedding to pages."""
    yield from _told(begin(tmp_path_factory.mktemp("curation"), CURATION, "curation"), "curation")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """With training and evaluation."""
    yield from _told(begin(tmp_path_factory.mktemp("whole"), FLOW, "whole"), "whole")


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
    whole.kill_clients("group", share(6), *LOCAL)


def test_training_and_evaluation_bear_the_loss_of_workers(whole: Campaign) -> None:
    whole.kill_workers(share(8), *LOCAL)


def test_training_and_evaluation_bear_the_loss_of_the_scheduler(whole: Campaign) -> None:
    whole.kill_cluster(share(9), share(3))


def test_a_download_goes_on_after_the_client_was_killed(ingest: Campaign) -> None:
    ingest.kill_clients("client", share(10), *PROCESS)


def test_a_download_goes_on_after_all_was_killed(ingest: Campaign) -> None:
    ingest.kill_clients("group", share(4), *LOCAL)


def test_a_download_bears_the_loss_of_workers(ingest: Campaign) -> None:
    ingest.kill_workers(share(10), *LOCAL)


def test_a_download_bears_the_loss_of_the_scheduler(ingest: Campaign) -> None:
    ingest.kill_cluster(share(4), share(2))
