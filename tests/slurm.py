"""A Slurm of one host: its own munge, controller and node, in a folder, for as long as needed."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dask_processes import free_port

SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={controller}
SlurmdPort={node}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")


def slurm_works() -> bool:
    """True where Slurm is installed (Debian's slurm-wlm) and may be started: as root."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in _PROGRAMS)


@dataclass(frozen=True)
class Slurm:
    """A running Slurm.

    Attributes:
        environment: by which its commands, and those of `curate`, find it.
    """

    environment: dict[str, str]

    def jobs(self) -> list[str]:
        """Numbers of the jobs that run, the oldest first."""
        return sorted(self.call("squeue", "-h", "-t", "R", "-o", "%i").split(), key=int)

    def call(self, *words: str) -> str:
        """What one of its commands prints."""
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True
        ).stdout


@contextmanager
def one_host(folder: Path) -> Iterator[Slurm]:
    """Start it, wait until its node is idle, and end all of it."""
    for name in ("state", "spool", "home"):
        (folder / name).mkdir(parents=True)
    ports = {"controller": free_port(), "node": free_port()}
    host = socket.gethostname()
    (folder / "slurm.conf").write_text(SETTINGS.format(host=host, folder=folder, **ports))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    slurm = Slurm({
        **os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "HOME": str(folder / "home"),
        "DASK_CONFIG": str(folder / "home"),
    })  # fmt: skip
    parts = [
        ("munged", "-F", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
         f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
         f"--seed-file={folder}/munged.seed"),
        ("slurmctld", "-D"),
        ("slurmd", "-D"),
    ]  # fmt: skip
    started = []
    try:
        for words in parts:
            with (folder / f"{words[0]}.txt").open("ab") as log:
                started.append(subprocess.Popen(
                    words, env=slurm.environment, stdout=log, stderr=log, start_new_session=True,
                ))  # fmt: skip
            time.sleep(0.5)
        _wait_until_idle(slurm, folder)
        yield slurm
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def _wait_until_idle(slurm: Slurm, folder: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=slurm.environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if found.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    raise AssertionError((folder / "slurmctld.txt").read_text() + found.stderr)
