"""What steps take beside their units: those of a small flow, less what a plan says of the units."""

import os
import tarfile
from itertools import pairwise
from pathlib import Path

from rate_table import MEASURED_BY, Table

from curate.copies import TRANSFORMATIONS
from eval.suites import SUITES, settings_of
from pipelines.flow.config import FlowConfig
from pipelines.flow.reading import read_flow
from pipelines.flow.run import run_flow
from pipelines.planning.machines import machines_of
from pipelines.planning.model_costs import stamina_of
from pipelines.planning.plan import make_plan
from pipelines.planning.rates import Rate, Rates
from pipelines.watch import Watch
from train.recipe import read_recipe

FLOW = """
name: rates
out: {folder}/study
cluster: {{retries: 0}}
device: cpu
sets:
  test: {{shards: "{folder}/sets/test.tar"}}
  train: {{shards: "{folder}/sets/train.tar"}}
dedup:
  copies:
    {{test: test, train: train, detector: "builtin:layout", verify: none, threshold: [0.82, 0.9],
      calibrate: {{images: 10}}}}
train:
  short: {{data: train, set: {{epochs: null, updates: 4, held_out: 100}}}}
  long: {{data: train, set: {{epochs: null, updates: 24, held_out: 100}}}}
  one: {{data: train, scratch: {{epochs: 1}}}}
  nine: {{data: train, scratch: {{epochs: 9}}}}
eval:
  split: {{models: "builtin:tiny-clip", data: {{split: test}}, settings: [split], limit: 20,
          splits: {{split: copies}}}}
  few: {{models: "builtin:tiny-clip", data: {{few: train}}, settings: [few], limit: 20}}
  more: {{models: "builtin:tiny-clip", data: {{more: train}}, settings: [more], limit: 800}}
  attacked: {{models: "builtin:tiny-clip", data: {{attacked: train}}, limit: 400,
             settings: [attacked@pgd-20]}}
  shifted: {{models: "builtin:tiny-clip", data: {{shifted: train}}, limit: 20,
            settings: [{shifts}]}}
  further: {{models: "builtin:tiny-clip", data: {{further: train}}, limit: 200,
            settings: [{further}]}}
"""
SHIFTS = [word for word in map(str, settings_of(SUITES["quick"], "shifted")) if word.endswith(".3")]
"""Every corruption, once."""


_BY = f"{MEASURED_BY}, a flow of 200 and 800 images of 32 x 32"
_FORWARD = "forward.large.builtin:tiny-clip"
UNKNOWN = (
    "step.dedup", "step.split", "step.page", "step.report", "step.overlap", "step.calibrate",
    "calibrate.copy", "step.train", "train.image", _FORWARD,
    "step.scratch", "scratch.image", "step.eval", "eval.setting", "eval.image", "eval.shift",
    "attack.fall",
)  # fmt: skip
"""What the small flow is to tell."""


def measure_flow_steps(table: Table, small: Path, folder: Path) -> None:
    """Run the small flow on 200 and 800 of SMALL's images, and note what its steps take."""
    took = flow_seconds(small, folder)
    flow = read_flow(folder / "rates.yaml")
    rates = table.known()
    for name in UNKNOWN:
        rates = rates.changed({name: Rate(value=0)})
    _note_dedup(table, took, _beside(took, flow, rates))
    forward = _note_training(table, took, flow, rates)
    rates = rates.changed({_FORWARD: Rate(value=forward)})
    _note_evaluation(table, _beside(took, flow, rates), rates)


def _note_dedup(table: Table, took: dict[str, float], beside: dict[str, float]) -> None:
    table.measured("step.dedup", beside["dedup/copies"], "s", _BY)
    table.measured("step.split", beside["split/copies/0.9"], "s", _BY)
    for kind, name in (("page", "page/copies"), ("overlap", "overlap"), ("report", "report")):
        table.measured(f"step.{kind}", took[name], "s", _BY)
    copies = 10 * len(TRANSFORMATIONS) * 3
    table.measured("calibrate.copy", beside["calibrate/copies"] / copies, "s/copy", _BY)
    table.measured("step.calibrate", 0, "s", f"{_BY}; in calibrate.copy")


def _note_training(table: Table, took: dict[str, float], flow: FlowConfig, rates: Rates) -> float:
    """Returns the seconds of an image and pass, by what 20 more updates take."""
    passes = read_recipe("tiny").batch * 9 * rates("train.share")  # of an update with two steps
    forward = (took["train/long"] - took["train/short"]) / 20 / passes
    table.measured(_FORWARD, forward, "s/image and pass", _BY)
    table.measured("train.image", 0, "s/image of an update", f"{_BY}; in forward.large")
    beside = _beside(took, flow, rates.changed({_FORWARD: Rate(value=forward)}))
    table.measured("step.train", beside["train/short"], "s", _BY)
    each = (took["train/nine"] - took["train/one"]) / 8 / 750  # three whole batches
    table.measured("scratch.image", each, "s/image and epoch", _BY)
    table.measured("step.scratch", took["train/one"] - 750 * each, "s", _BY)
    return forward


def _note_evaluation(table: Table, beside: dict[str, float], rates: Rates) -> None:
    few, more, attacked, shifted, further = (
        beside[f"eval/{name}/builtin-tiny-clip"]
        for name in ("few", "more", "attacked", "shifted", "further")
    )
    each = max(0.0, (more - few) / 780)
    made = (further - shifted) / 180 / len(SHIFTS) - each
    one_of = 20 * (each + made)
    setting = max(0.0, (shifted - few - len(SHIFTS) * one_of + 20 * each) / (len(SHIFTS) - 1))
    table.measured("eval.image", each, "s/image", _BY)
    table.measured("eval.shift", made, "s/image", _BY)
    table.measured("eval.setting", setting, "s/setting", _BY)
    table.measured("step.eval", few - setting - 20 * each, "s", _BY)
    kept = stamina_of(rates, is_robust=False).withstand(4)
    whole = 400 * 60 * rates(_FORWARD) * (1 - kept)
    table.measured("attack.fall", (attacked - few - 380 * each) / whole,
                   "of the passes of an attack, where it succeeds",
                   f"{MEASURED_BY}, builtin:tiny-clip under PGD-20 at 4/255")  # fmt: skip


def _beside(took: dict[str, float], flow: FlowConfig, rates: Rates) -> dict[str, float]:
    """Seconds of each step less those that a plan by these rates gives its units."""
    return {name: took[name] - planned for name, planned in _planned(flow, rates).items()}


def _planned(flow: FlowConfig, rates: Rates) -> dict[str, float]:
    """Seconds of each step by some rates."""
    plan = make_plan(flow, rates, machines_of(flow.cluster, rates), whole=True)
    return {
        one.step.name: one.cost.seconds(on_driver=False) + one.cost.seconds(on_driver=True)
        for one in plan.steps
    }


def flow_seconds(small: Path, folder: Path) -> dict[str, float]:
    """Processor seconds of each step of the small flow, processes that it started included."""
    (folder / "sets").mkdir()
    with tarfile.open(small) as source:
        members = list(source)
        for name, chosen in (("test", members[:600]), ("train", members[600:])):
            with tarfile.open(folder / "sets" / f"{name}.tar", "w") as target:
                for member in chosen:
                    target.addfile(member, source.extractfile(member))
    path = folder / "rates.yaml"
    path.write_text(
        FLOW.format(
            folder=folder,
            shifts=(shifts := ", ".join(SHIFTS)),
            further=shifts.replace("shifted", "further"),
        )
    )
    begun: list[tuple[str, float]] = []

    def watch_of(name: str) -> Watch:
        begun.append((name, _cpu()))
        return Watch()

    result = run_flow(read_flow(path), watch_of)
    assert result.exit_code == 0, result.failed
    begun.append(("end", _cpu()))
    return {name: after - at for (name, at), (_, after) in pairwise(begun)}


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
