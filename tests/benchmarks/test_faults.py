"""Tallies of campaigns, added up."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import faults


def test_tallies_of_all_campaigns_are_added_up() -> None:
    one = {"kills": {"client": {"embed": 2}}, "ends": {"done": 2}, "seconds": 10, "total": 2}
    two = {
        "kills": {"client": {"embed": 1, "index": 4}, "worker": {"train": 3}},
        "ends": {"done": 5, "resumed": 1},
        "seconds": 5,
    }
    assert faults.together([{"curation": one}, {"whole": two}]) == {
        "kills": {"client": {"embed": 3, "index": 4}, "worker": {"train": 3}},
        "total": 10,
        "ends": {"done": 7, "resumed": 1},
        "seconds": 15,
    }
