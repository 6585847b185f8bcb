"""What became of each step, in the run folder: for `curate status`, `retry` and `logs`.

    RUN/flow/flow.json            the flow as it was run last
    RUN/flow/steps/NAME/step.json state, what the result depends on, units, error
                        log.txt   lines with times, kept from run to run
                        failed.json  units that failed, those put aside among them

The artifacts need none of it; a flow whose ledger is lost is run again, and reuses them.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from curate.errors import CurateError
from curate.files import read_json, write_json
from curate.units import Outcome, unit_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from curate.units import RunUnits

FOLDER = "flow"
FLOW_FILE = f"{FOLDER}/flow.json"

State = Literal["running", "done", "partial", "failed", "broken", "stopped"]
"""partial: some units failed; failed: bad input; broken: a promise or the program."""


@dataclass(frozen=True)
class Failed:
    """A unit that failed.

    Attributes:
        unit: in words.
        error: why.
        quarantined: it is put aside: only `curate retry` runs it again.
    """

    unit: str
    error: str
    quarantined: bool = False


@dataclass(frozen=True)
class Record:
    """What is known of a step.

    Attributes:
        state: how it ended; "running" without a process that runs it was killed.
        identity: what its result depends on.
        id: digest of its result.
        outputs: artifact folders that it left, below the run's.
        counts: numbers worth knowing.
        damaged: shards that were not whole, and why.
        units: how many were done, failed, quarantined in the last run; of those done before, none.
        error: why it failed.
        began: UTC time.
        seconds: how long it took.
    """

    state: State
    identity: dict[str, Any]
    id: str | None = None
    outputs: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    began: str = ""
    seconds: float = 0.0


class StepBook:
    """The ledger of one step; units of several threads may be noted at once."""

    def __init__(self, run: Path, name: str) -> None:
        self._folder = run / FOLDER / "steps" / name
        self._failed: dict[str, Failed] = {}
        self.units = {"done": 0, "failed": 0, "quarantined": 0}

    @property
    def log_path(self) -> Path:
        """Where its lines are."""
        return self._folder / "log.txt"

    def record(self) -> Record | None:
        """What is known; None: it never ran, or what was noted cannot be understood."""
        path = self._folder / "step.json"
        if not path.is_file():
            return None
        try:
            stored = read_json(path)
            return Record(**{**stored, "outputs": tuple(stored["outputs"])})
        except (CurateError, KeyError, TypeError):  # the step is done again, which reuses what is
            return None

    def write(self, record: Record) -> None:
        """Store what is known."""
        write_json(self._folder / "step.json", asdict(replace(record, units=dict(self.units))))

    def log(self, text: str) -> None:
        """Add lines, each with the time.

        Raises:
            CurateError: the disk is full or the folder is not writable.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = "".join(f"{now} {line}\n" for line in text.splitlines())
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(lines)
        except OSError as error:
            raise CurateError(
                f"{self.log_path}: could not be written ({error}). Free space or change --out."
            ) from error

    # --- failures ---------------------------------------------------------------------------------

    def failures(self) -> list[Failed]:
        """Units that failed when the step ran last."""
        path = self._folder / "failed.json"
        if not path.is_file():
            return []
        try:
            return [Failed(**one) for one in read_json(path)]
        except (CurateError, TypeError):  # units that were put aside are tried once more
            return []

    def forget_failures(self) -> None:
        """Let units that were put aside run again."""
        (self._folder / "failed.json").unlink(missing_ok=True)

    def booked(self, run_units: RunUnits) -> RunUnits:
        """The same runner, with every failure noted and without units that are put aside.

        These stay aside if the step ends before it comes to them.
        """
        aside = {one.unit: one for one in self.failures() if one.quarantined}
        self._failed |= aside

        def run(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
            names = [unit_name(unit) for unit in units] if aside else []
            for unit, name in zip(units, names, strict=False):
                if name in aside:
                    error = aside[name].error
                    yield self._noted(Outcome(unit, error=error, quarantined=True))
            chosen = units
            if aside:
                chosen = [one for one, name in zip(units, names, strict=True) if name not in aside]
            for outcome in run_units(function, chosen):
                yield self._noted(outcome)

        return run

    def _noted(self, outcome: Outcome) -> Outcome:
        if outcome.error is None:
            self.units["done"] += 1
            return outcome
        self.units["quarantined" if outcome.quarantined else "failed"] += 1
        unit = unit_name(outcome.unit)
        self._failed[unit] = Failed(unit, outcome.error, outcome.quarantined)
        self.log(f"{'put aside' if outcome.quarantined else 'failed'}: {unit}: {outcome.error}")
        if outcome.quarantined:  # at once, as it may have taken workers with it
            self.keep_failures()
        return outcome

    def keep_failures(self) -> None:
        """Store the failures of this run, and what is put aside, in the place of earlier ones."""
        path = self._folder / "failed.json"
        if self._failed:
            write_json(path, [asdict(self._failed[name]) for name in sorted(self._failed)])
        else:
            path.unlink(missing_ok=True)


def is_being_run(run: Path) -> bool:
    """Whether a process holds the lock of a run now."""
    path = run / ".lock"
    if not path.is_file():
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # of a file system without locks
        return False
    else:
        return False
    finally:
        os.close(handle)
