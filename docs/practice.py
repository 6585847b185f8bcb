"""Practice material for docs/tutorial.md: pictures to serve, a list of their URLs, and a benchmark.

    python docs/practice.py practice

writes `practice/pictures/` (what a web server serves), `practice/urls.csv` (url and caption; some
links are dead) and `practice/benchmark/CLASS/*.png` (a test set in folders by class). Some pictures
of the benchmark are copies of served ones, edited; `practice/answer.csv` says which. The same bytes
every time.
"""
# ruff: noqa: INP001 - a script beside the pages that it belongs to

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

CLASSES = ("stripes", "dots", "checks", "rings")
SERVED, DEAD, NEW, ALIKE, COPIED = 160, 4, 60, 20, 20
"""Pictures on the server, links to none, and test pictures: of their own, in the colours of a
served one, and copies of a served one."""
SIZE = 96
Edit = Callable[[Image.Image], Image.Image]


def field(rng: np.random.Generator) -> np.ndarray:
    """Smooth random colours, (SIZE, SIZE, 3) in 0..255."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=float)


def mask(kind: str, rng: np.random.Generator) -> np.ndarray:
    """The pattern of a class, (SIZE, SIZE) in 0..1: anywhere, turned at will, of any fineness."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(10, 24)
    y, x = (np.mgrid[0:SIZE, 0:SIZE] - rng.uniform(0, SIZE, (2, 1, 1))) * 2 * np.pi / period
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wave = {
        "stripes": np.sin(across),
        "dots": np.sin(across) + np.sin(along) - 0.8,
        "checks": np.sin(across) * np.sin(along) * 3,
        "rings": np.sin(np.hypot(x, y)),
    }[kind]
    return np.clip(wave * 2 + 0.5, 0, 1)[..., None]


def picture(number: int, colours: int | None = None) -> Image.Image:
    """A picture; its class is `CLASSES[number % 4]`, its colours may be those of another."""
    share = mask(CLASSES[number % len(CLASSES)], np.random.default_rng([number, 1]))
    rng = np.random.default_rng(number if colours is None else colours)
    return Image.fromarray((field(rng) * share + field(rng) * (1 - share)).astype(np.uint8))


def barred(image: Image.Image) -> Image.Image:
    """With a dark bar along its lower edge, as captions have."""
    found = image.copy()
    ImageDraw.Draw(found).rectangle((0, SIZE * 7 // 8, SIZE, SIZE), fill=(20, 20, 20))
    return found


EDITS: tuple[Edit, ...] = (
    lambda image: image,
    lambda image: image.resize((64, 64), Image.Resampling.LANCZOS),
    ImageOps.mirror,
    lambda image: image.crop((6, 6, SIZE - 6, SIZE - 6)),
    lambda image: image.filter(ImageFilter.GaussianBlur(1.2)),
    barred,
)


def main(folder: Path, address: str) -> None:
    """Write all of it."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for number in range(SERVED):
        picture(number).save(folder / "pictures" / f"{number:04}.jpg", quality=90)
    links = [(f"{address}/{n:04}.jpg", CLASSES[n % len(CLASSES)]) for n in range(SERVED + DEAD)]
    rows = [(link, f"a picture of {kind}") for link, kind in links]
    write_csv(folder / "urls.csv", [("url", "caption"), *rows])
    chosen = np.random.default_rng(7).choice(SERVED, ALIKE + COPIED, replace=False).tolist()
    drawn = [(1000 + n, picture(1000 + n)) for n in range(NEW)]
    alike = [(2000 + n, picture(2000 + n, colours=n)) for n in chosen[:ALIKE]]
    edited = [(n, EDITS[at % len(EDITS)](picture(n))) for at, n in enumerate(chosen[ALIKE:])]
    answer = []
    for place, (number, image) in enumerate([*drawn, *alike, *edited]):
        file = folder / "benchmark" / CLASSES[number % len(CLASSES)] / f"{place:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
        if number < SERVED:
            answer.append((f"{file.parent.name}:{file.name}", f"{address}/{number:04}.jpg"))
    write_csv(folder / "answer.csv", [("test_id", "url"), *answer])


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write rows, the first of them the header."""
    with path.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if sys.argv[2:] else "http://127.0.0.1:8000")
