"""The schedule of independent units again, in an obvious way: time in the smallest steps."""

from collections.abc import Sequence


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Units in order, each to the worker that is free first."""
    free = [0.0] * workers
    for one in seconds:
        first = free.index(min(free))
        free[first] += one
    return max(free)


def shared_makespan(units: Sequence[tuple[int, int]], workers: int, bandwidth: int) -> float:
    """The same with bytes that share a bandwidth, going from event to event over all units.

    Args:
        units: seconds and bytes of each.
        workers: units at a time.
        bandwidth: bytes a second, of all.
    """
    waiting = [[float(seconds), float(size)] for seconds, size in units]
    running: list[list[float]] = []
    now = 0.0
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(waiting.pop(0))
        moving = [one for one in running if one[1] > 0]
        rate = bandwidth / len(moving) if moving else 0.0
        ends = [one[1] / rate for one in moving] + [one[0] for one in running if one[0] > 0]
        step = min(ends, default=0.0)
        now += step
        for one in running:
            one[0] = max(0.0, one[0] - step)
            if one[1] > 0:
                one[1] = max(0.0, one[1] - step * rate)
            one[:] = [0.0 if value < 1e-9 else value for value in one]
        running = [one for one in running if any(one)]
    return now
