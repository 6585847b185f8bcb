"""Two hosts of one machine: network namespaces with a link between them that can be cut."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        name: of the namespace and of its end of the link.
        address: by which the other one reaches it.
    """

    name: str
    address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before a command that is to run there."""
        return ("ip", "netns", "exec", self.name)


@dataclass(frozen=True)
class Hosts:
    """Two hosts and the link between them."""

    here: Host
    there: Host

    def cut(self) -> None:
        """Take the link down, as a pulled cable does: nothing is said to either side."""
        _ip("-n", self.there.name, "link", "set", self.there.name, "down")

    def restore(self) -> None:
        """Bring the link up again."""
        _ip("-n", self.there.name, "link", "set", self.there.name, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def namespaces_work() -> bool:
    """True where network namespaces can be made: as root, with iproute2."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"cprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode == 0:
        _ip("netns", "delete", name)
    return made.returncode == 0


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make two hosts; they go at the end, whatever happens. Processes in them are the caller's."""
    hosts = Hosts(Host(f"ca{os.getpid()}", "10.213.77.1"), Host(f"cb{os.getpid()}", "10.213.77.2"))
    both = (hosts.here, hosts.there)
    try:
        for host in both:
            _ip("netns", "add", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        _ip(
            "link", "add", hosts.here.name, "netns", hosts.here.name, "type", "veth",
            "peer", "name", hosts.there.name, "netns", hosts.there.name,
        )  # fmt: skip
        for host in both:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.name)
            _ip("-n", host.name, "link", "set", host.name, "up")
        yield hosts
    finally:
        for host in both:
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, check=False)
