"""What training makes of the tiny CLIP, and what an update costs."""

from benchmarks.figures.markdown import bold, table
from benchmarks.figures.results import Results

_ROWS = {
    "undefended": "undefended",
    "ce": "ce",
    "tecoa": bold("tecoa"),
    "fare": "fare",
    "ce pixel-prompt": "ce, pixel prompt, rate 0.0003",
    "tecoa pixel-prompt": "tecoa, pixel prompt, rate 0.0003",
    "ce pixel-prompt 0.03": "ce, pixel prompt, rate 0.03",
    "tecoa pixel-prompt 0.03": "tecoa, pixel prompt, rate 0.03",
}


def trained(results: Results) -> str:
    """Accuracy on all test images, clean and attacked."""
    found = results["train-cifar10"]["rows"]
    rows = [
        [text, *(_interval(found[name][what]) for what in ("clean", "4/255", "8/255")),
         f"{found[name]['seconds']:.0f}"]
        for name, text in _ROWS.items()
    ]  # fmt: skip
    head = ("model", "clean", "robust at 4/255", "robust at 8/255", "CPU s to train")
    return f"{table(head, rows)}\n\n{results.source('train-cifar10')}"


def _interval(share: dict[str, float]) -> str:
    value, low, high = (100 * share[key] for key in ("accuracy", "low", "high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def training_step(results: Results) -> str:
    """An update in forward passes, and against a plain way."""
    rows = [
        [f"`{name}`", f"{one['images']}", f"{one['classes']}", f"{one['update_seconds']:.1f} s",
         f"{one['forward_equivalents']:.1f}", f"{one['plain_seconds']:.1f} s",
         f"{one['speed_up']:.1f} x"]
        for name, one in results["train-step"]["models"].items()
    ]  # fmt: skip
    head = ("model", "images", "classes", "ours", "in forward passes", "plain way", "speed-up")
    return f"{table(head, rows)}\n\n{results.source('train-step')}"


TABLES = (trained, training_step)
