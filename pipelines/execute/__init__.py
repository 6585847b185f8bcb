"""Running units in this process or on Dask: worker processes here, a scheduler, GPUs, queues.

Workers are spawned, never forked: a fork after faiss or torch has used threads hangs. A worker is
one core; what it computes does not depend on how many there are.
"""

from pipelines.execute.config import Adaptive, ClusterConfig, Tls
from pipelines.execute.runner import Runner, open_runner, unit_runner, worker_number

__all__ = [
    "Adaptive", "ClusterConfig", "Runner", "Tls", "open_runner", "unit_runner", "worker_number",
]  # fmt: skip
