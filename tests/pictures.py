"""Small pictures and shards for tests, the same bytes for the same seed."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


def picture(seed: int, size: int = 48) -> Image.Image:
    """Smooth random colours: pictures of different seeds are unlike each other."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The image in a file format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def copies(image: Image.Image) -> dict[str, bytes]:
    """What people do to a picture before it turns up in another set."""
    return {
        "same": encoded(image),
        "jpeg": encoded(image, "JPEG", quality=60),
        "smaller": encoded(image.resize((32, 32), Image.Resampling.LANCZOS)),
        "blurred": encoded(image.filter(ImageFilter.GaussianBlur(1))),
        "mirrored": encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    }


Sampled = tuple[str, dict[str, bytes]]


def sample(key: str, image: bytes, label: int = 0, extension: str = "png") -> Sampled:
    """A webdataset sample with image, label and caption."""
    fields = {"label": label, "caption": f"picture {key}"}
    return key, {extension: image, "cls": str(label).encode(), "json": json.dumps(fields).encode()}


def write_shard(path: Path, samples: Sequence[Sampled]) -> Path:
    """Write samples as a plain tar, as any tool might."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, members in samples:
            for extension, data in members.items():
                header = tarfile.TarInfo(f"{key}.{extension}")
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return path


def write_set(root: Path, seeds: Sequence[Sequence[int]], classes: int = 3) -> Path:
    """Write one shard per list of seeds; the key of a sample is its seed."""
    for number, shard in enumerate(seeds):
        rows = [sample(f"{seed:06d}", encoded(picture(seed)), seed % classes) for seed in shard]
        write_shard(root / f"{number:05d}.tar", rows)
    return root


def tree(root: Path, *, facts: bool = False) -> dict[str, bytes]:
    """Every file below a folder with its bytes; what is allowed to differ is left away."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock" and (facts or "facts" not in path.parts)
    }


def tree_digests(root: Path) -> dict[str, str]:
    """The same with digests, which are easier to compare by eye when they differ."""
    return {path: hashlib.sha256(data).hexdigest() for path, data in tree(root).items()}
