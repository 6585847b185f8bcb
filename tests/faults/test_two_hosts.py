"""`curate dedup` over two hosts whose link is cut in mid-run: the result is that of one process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dask_processes import ROOT, Processes, dask_processes
from network import Hosts, namespaces_work, two_hosts
from pictures import encoded, picture, sample, tree, write_shard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not namespaces_work(), reason="needs root and iproute2"),
]
PORT = 8786
SHARDS, PER_SHARD = 60, 80

WAIT = """
import sys
from distributed import Client
with Client(sys.argv[1], timeout=30) as client:
    client.wait_for_workers(2, timeout=30)
"""
WHO_EMBEDDED = """
import sys
from distributed import Client

def embedded(dask_worker):
    return len({key for key, *_ in dask_worker.state.log if str(key).startswith("embed_unit")})

with Client(sys.argv[1], timeout=30) as client:
    print(*sorted(client.run(embedded).values()))
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A train set large enough to be cut off from, and copies of five of its pictures as test."""
    root = tmp_path_factory.mktemp("sets")
    for shard in range(SHARDS):
        rows = [
            sample(f"{shard:03d}{n:04d}", encoded(picture(shard * PER_SHARD + n)))
            for n in range(PER_SHARD)
        ]
        write_shard(root / "train" / f"{shard:05d}.tar", rows)
    copies = [sample(f"copy-{n}", encoded(picture(n * PER_SHARD + 7), "JPEG")) for n in range(5)]
    new = [sample(f"new-{n}", encoded(picture(10**6 + n))) for n in range(10)]
    write_shard(root / "test" / "test.tar", copies + new)
    return root


def words(sets: Path, out: Path) -> list[str]:
    return [
        "pipelines", "dedup", "--test", str(sets / "test"), "--train", str(sets / "train"),
        "--out", str(out), "--detector", "builtin:copy", "--no-report",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run([sys.executable, "-m", *words(sets, out)], check=True, cwd=ROOT, timeout=300)
    return tree(out)


@dataclass
class Cluster:
    """Two hosts with a worker each; the scheduler and the client are here."""

    hosts: Hosts
    processes: Processes

    @property
    def address(self) -> str:
        return f"tcp://{self.hosts.here.address}:{PORT}"

    def ask(self, program: str) -> str:
        words = [*self.hosts.here.prefix, sys.executable, "-c", program, self.address]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def run_cut(self, sets: Path, out: Path, *, away: float | None) -> int:
        """Run dedup, cut the link when a tenth is embedded, restore it after some seconds."""
        client = self.processes.start(
            *words(sets, out), "--scheduler", self.address, prefix=self.hosts.here.prefix
        )
        deadline = time.monotonic() + 120
        while len(list(out.rglob("img_emb_*.npy"))) < SHARDS // 10:
            assert client.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.hosts.cut()
        if away is not None:
            time.sleep(away)
            assert client.poll() is None, "the run ended before the link was restored"
            self.hosts.restore()
        return client.wait(timeout=240)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    # Silence is taken for a loss sooner than after Dask's 30 seconds, to keep the tests short.
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "12s")
    with two_hosts() as hosts, dask_processes() as processes:
        started = Cluster(hosts, processes)
        processes.scheduler(PORT, host=hosts.here.address, prefix=hosts.here.prefix)
        for host in (hosts.here, hosts.there):
            processes.worker(started.address, "--host", host.address, prefix=host.prefix)
        started.ask(WAIT)
        yield started


def test_a_link_that_comes_back_within_seconds_goes_on(
    cluster: Cluster, sets: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert cluster.run_cut(sets, tmp_path / "run", away=2) == 0
    assert tree(tmp_path / "run") == undisturbed
    assert all(int(count) > 0 for count in cluster.ask(WHO_EMBEDDED).split())


def test_a_worker_that_was_given_up_for_lost_and_comes_back_does_no_harm(
    cluster: Cluster, sets: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert cluster.run_cut(sets, tmp_path / "run", away=14) == 0
    assert tree(tmp_path / "run") == undisturbed


def test_a_link_that_is_cut_for_good_leaves_the_work_to_the_other_host(
    cluster: Cluster, sets: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert cluster.run_cut(sets, tmp_path / "run", away=None) == 0
    assert tree(tmp_path / "run") == undisturbed
