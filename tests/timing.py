"""How long work takes, whatever else this process and the machine do meanwhile."""

import time
import timeit
from collections.abc import Callable


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this thread: the least of three runs, no garbage of other tests among them."""
    return min(timeit.repeat(work, timer=time.thread_time, number=1, repeat=3))
