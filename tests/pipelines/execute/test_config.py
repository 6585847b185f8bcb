"""Settings of a cluster: what each kind takes, and what is refused with a remedy."""

from typing import Any

import pytest

from curate.config import make_config
from curate.errors import CurateError
from pipelines.execute import ClusterConfig, Tls
from pipelines.execute.config import simple_cluster

WHOLE: dict[str, dict[str, Any]] = {
    "process": {"resources": {"GPU": 1}, "retries": 0},
    "local": {
        "workers": 4, "memory": "8 GB", "pin": True, "unit_timeout": 60, "dashboard": ":8787",
    },
    "tcp": {"address": "tcp://10.0.0.1:8786", "unit_timeout": 60, "loss_timeout": 5},
    "cuda": {"workers": 8, "memory": "64 GiB"},
    "slurm": {
        "workers": 64, "memory": "32 GB", "cores": 8, "queue": "gpu", "account": "vision",
        "walltime": "02:00:00", "job_extra": ["--gres=gpu:1"], "prologue": ["module load cuda"],
        "interface": "ib0", "resources": {"GPU": 1},
    },
    "pbs": {"memory": "32 GB", "adaptive": {"minimum": 1, "maximum": 64}},
    "lsf": {"memory": "32 GB", "workers": 2},
    "kubernetes": {"image": "registry/curate:1", "namespace": "vision", "workers": 4},
}  # fmt: skip


def cluster(**values: Any) -> ClusterConfig:
    return make_config(ClusterConfig, values, "cluster")


@pytest.mark.parametrize("kind", WHOLE)
def test_each_kind_takes_what_belongs_to_it(kind: str) -> None:
    made = cluster(kind=kind, **WHOLE[kind])
    assert made.kind == kind
    assert ClusterConfig(**made.model_dump(exclude_unset=True)) == made


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "local", "queue": "gpu"}, "queue has no meaning for kind local, but for slurm"),
        ({"kind": "process", "workers": 4}, "workers has no meaning for kind process"),
        ({"kind": "process", "unit_timeout": 5}, "unit_timeout has no meaning"),
        ({"kind": "tcp"}, "kind tcp needs address"),
        ({"kind": "slurm"}, "kind slurm needs memory"),
        ({"kind": "kubernetes"}, "kind kubernetes needs image"),
        ({"kind": "local", "memory": "much"}, "'much' is no size such as '8 GB'"),
        ({"kind": "local", "workers": 2, "adaptive": {"maximum": 4}}, "workers or adaptive"),
        ({"kind": "pbs", "memory": "1 GB", "adaptive": {"minimum": 9, "maximum": 4}}, "maximum 4"),
        ({"kind": "local", "resources": {"GPU": 0}}, "resources.GPU"),
        ({"kind": "ray"}, "kind: Input should be 'process', 'local'"),
        ({"worker": 2}, "worker is no setting .did you mean workers"),
        ({"workers": 0, "kind": "local"}, "workers: Input should be greater"),
    ],
)
def test_what_makes_no_sense_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(CurateError, match=words):
        cluster(**values)


def test_certificates_need_an_address_that_uses_them() -> None:
    tls = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    assert cluster(kind="tcp", address="tls://a:1", tls=tls).tls == Tls.model_validate(tls)
    with pytest.raises(CurateError, match="it is tls://HOST:PORT"):
        cluster(kind="tcp", address="tcp://a:1", tls=tls)


def test_a_setting_that_is_given_its_usual_value_is_no_error() -> None:
    assert cluster(kind="process", workers=1).kind == "process"


def test_a_worker_on_a_gpu_offers_it_without_being_told() -> None:
    assert cluster(kind="cuda").offered == {"GPU": 1}
    assert cluster(kind="cuda", resources={"GPU": 2, "DISK": 1}).offered == {"GPU": 2, "DISK": 1}
    assert cluster(kind="local").offered == {}


def test_flags_stand_for_a_process_for_workers_or_for_a_scheduler() -> None:
    assert simple_cluster() == ClusterConfig()
    assert simple_cluster(4) == ClusterConfig(kind="local", workers=4)
    assert simple_cluster(4, "tcp://a:1") == ClusterConfig(kind="tcp", address="tcp://a:1")
