"""Rates as a benchmark finds them, each with what it rests on."""

from typing import Any

from record import machine

from pipelines.planning.rates import Rate, Rates

MEASURED_BY = "benchmarks/rates.py"


class Table:
    """Rates as they are found."""

    def __init__(self) -> None:
        self.rates: dict[str, dict[str, Any]] = {}
        self._machine = machine()

    def measured(self, name: str, value: float, unit: str, by: str = MEASURED_BY) -> None:
        """Note what was measured on this machine."""
        self._put(name, max(0.0, value), unit, "measured", f"{self._machine}; {by}")

    def stated(self, name: str, value: float, unit: str, source: str, of: str) -> None:
        """Note what was not."""
        self._put(name, value, unit, source, of)

    def known(self) -> Rates:
        """All so far."""
        return Rates({name: Rate(**one) for name, one in self.rates.items()})

    def _put(self, name: str, value: float, unit: str, source: str, of: str) -> None:
        self.rates[name] = {
            "value": float(f"{value:.4g}"), "unit": unit, "source": source, "of": of
        }  # fmt: skip
        print(name, self.rates[name]["value"], unit, source, flush=True)
