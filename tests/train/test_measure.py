import json
import os
import subprocess
import sys
import textwrap

from dask_processes import free_port

_PROGRAM = """
    import json
    from dataclasses import asdict

    import torch

    from eval.attacks.threat import Threat
    from eval.models.classifier import ZeroShot
    from train.loader import Loaded
    from train.measure import accuracy, gather
    from train.order import in_turn
    from train.processes import started

    def held(count, processes):
        \"\"\"Pictures with one bright pixel, the first of which is seen as another class.\"\"\"
        images = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
        images.view(count, -1)[:, 0] = 200
        labels = torch.arange(count).eq(0).long()
        rows = in_turn(count, 2, rank=processes.rank, world=processes.world)
        return gather(
            Loaded(
                part.step, part.epoch, tuple(f"0:{row}" for row in part.rows),
                images[part.rows], labels[part.rows], (None,) * len(part.rows),
            )
            for part in rows
        )

    classifier = ZeroShot(
        torch.nn.Flatten(), torch.eye(2, 12), scale=10.0, mean=(0.0,), std=(1.0,)
    ).eval()
    threat = Threat(eps=1.0, step=1.0, steps=1, start="zero")
    with started("cpu") as processes:
        print(json.dumps([
            asdict(accuracy(classifier, held(count, processes), threat, 0, processes))
            for count in (1, 5)
        ]))
"""


def test_accuracy_is_of_the_samples_of_all_processes_though_one_may_have_none() -> None:
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_PROGRAM)],
            env=os.environ | place | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        one, five = json.loads(process.communicate(timeout=120)[0])
        assert one == {"images": 1, "clean": 0.0, "robust": 0.0, "zero_gradient": 0.0}
        assert five == {"images": 5, "clean": 0.8, "robust": 0.8, "zero_gradient": 0.0}
