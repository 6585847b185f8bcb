"""What deduplication of up to five billion images would take, and the shipped study of ImageNet.

Plans, not runs: bytes and FLOPs are arithmetic, hours rest on the shipped rates, of which those of
GPUs are a data sheet's peak and an assumed utilisation. 64 workers have a GPU each, and 8 threads.

    python benchmarks/large.py --out benchmarks/results/large.json
"""

import argparse
from pathlib import Path
from typing import Any

from record import write_result

from pipelines.flow.config import FlowConfig
from pipelines.flow.reading import find_flow, read_flow
from pipelines.planning.machines import machines_of
from pipelines.planning.plan import Plan, make_plan
from pipelines.planning.rates import shipped_rates

IMAGES = (12_000_000, 400_000_000, 2_000_000_000, 5_000_000_000)
BYTES = 28_000
SHARD = 10_000
TESTS = 50_000
NETWORKS = {"SSCD": "sscd:disc_mixup", "ViT-L/14": "open_clip:ViT-L-14/openai"}
PRICES = {"gpu-hour": 2.5, "tb-month": 20.0}
CLUSTER = {
    "kind": "slurm", "workers": 64, "memory": "32 GB", "cores": 8, "queue": "gpu",
    "walltime": "24:00:00", "resources": {"GPU": 1},
}  # fmt: skip
SHIPPED = "imagenet-laion"


def main() -> None:
    """Plan all and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    plans = [row(images, network) for images in IMAGES for network in NETWORKS]
    shipped = planned(read_flow(find_flow(SHIPPED), ()), {"gpu-hour": PRICES["gpu-hour"]})
    write_result(
        arguments.out,
        {
            "settings": {"bytes": BYTES, "shard": SHARD, "tests": TESTS, "prices": PRICES},
            "plans": plans,
            SHIPPED: {**totals(shipped), "bottleneck": shipped.to_json()["bottleneck"]},
        },
    )


def row(images: int, network: str) -> dict[str, Any]:
    """The plan of one set and one network."""
    found = planned(flow_of(images, NETWORKS[network]), PRICES)
    steps = {step["kind"]: step for step in found.to_json()["steps"]}
    side = next(one for one in found.to_json()["steps"] if "/train/" in one["name"])
    return {
        "images": images, "network": network, "read_bytes": side["read_bytes"],
        "vector_bytes": side["written_bytes"], "join_flops": steps["dedup"]["flops"],
        "join_seconds": steps["dedup"]["driver_seconds"], **totals(found),
    }  # fmt: skip


def totals(found: Plan) -> dict[str, Any]:
    """Hours and money of all steps."""
    plan = found.to_json()
    return {
        "gpu_hours": sum(step["gpu_seconds"] for step in plan["steps"]) / 3600,
        "hours": plan["seconds"] / 3600,
        "money": plan["money"]["held"],
        "money_used": plan["money"]["used"],
    }


def planned(flow: FlowConfig, prices: dict[str, float]) -> Plan:
    """A plan by the shipped rates."""
    rates = shipped_rates()
    return make_plan(flow, rates, machines_of(flow.cluster, rates), prices)


def flow_of(images: int, detector: str) -> FlowConfig:
    """Embedding both sets, an exact join, and the clean test set."""
    sets = {
        name: {
            "shards": f"{name}/{{0..{count // SHARD - 1}}}.tar",
            "size": {"samples": count, "shards": count // SHARD, "bytes": count * BYTES},
        }
        for name, count in (("test", TESTS), ("train", images))
    }
    copies = {"test": "test", "train": "train", "detector": detector, "verify": "none",
              "views": ["identity", "mirror"]}  # fmt: skip
    return FlowConfig.model_validate({
        "name": "large", "out": "large", "device": "cuda", "threads": 8, "sets": sets,
        "cluster": CLUSTER, "needs": {"embed": {"GPU": 1}}, "dedup": {"copies": copies},
    })  # fmt: skip


if __name__ == "__main__":
    main()
