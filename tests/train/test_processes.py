import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest
import torch

from curate.errors import CurateError
from train.processes import Processes, started

_PROGRAM = """
    import json, sys
    import torch
    from train.processes import started

    with started("cpu") as processes:
        rank = processes.rank
        parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))]
        frozen = torch.nn.Parameter(torch.zeros(1))
        for place, parameter in enumerate(parameters):
            parameter.grad = torch.full_like(parameter, 10.0 ** place * (rank + 1))
        processes.sum_gradients([*parameters, frozen])
        print(json.dumps({
            "rank": rank,
            "world": processes.world,
            "first": processes.is_first,
            "gradients": [p.grad.unique().tolist() for p in parameters],
            "untouched": frozen.grad is None,
            "sum": float(processes.sum(torch.tensor(rank + 1.0))),
            "joined": processes.joined(torch.full((2,), float(rank))).tolist(),
        }))
        processes.wait()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_sum_and_join_what_they_have() -> None:
    port = str(free_port())
    running = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_PROGRAM)],
            env=os.environ
            | {
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    for rank, answer in enumerate(answers):
        assert answer == {
            "rank": rank,
            "world": 2,
            "first": rank == 0,
            "gradients": [[3.0], [30.0]],
            "untouched": True,
            "sum": 3.0,
            "joined": [0.0, 0.0, 1.0, 1.0],
        }


def test_one_process_is_alone_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    with started("cpu") as processes:
        assert processes == Processes(0, 1)
        processes.sum_gradients([parameter])
        processes.wait()
        assert processes.joined(parameter.detach()) is not None
    assert torch.equal(parameter.grad, torch.ones(2))


def test_processes_that_cannot_be_joined_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CurateError, match="2 processes could not be joined"), started("cpu"):
        pass
