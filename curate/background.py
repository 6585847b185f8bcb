"""Background vectors: of images of the same kind as those compared, but copies of none of them.

Two refinements of a detector rest on them. Whitening (`curate.encoders.whitening`) levels the
directions in which such vectors vary. Score normalisation (`curate.normalisation`) subtracts from a
score how near its test image is to images that it has nothing to do with.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import CurateError
from curate.parts import read_vectors
from curate.published import Published, open_vectors
from curate.storage import local_path


@dataclass(frozen=True)
class Background:
    """Background vectors in memory.

    Attributes:
        place: where they came from, for people.
        vectors: (n, d) float16 or float32, each finite and not zero.
        digest: sha256 (hex) of their type, shape and bytes, wherever they lie.
    """

    place: str
    vectors: NDArray[np.floating]
    digest: str


def read_background(path: Path | str, encoder: Mapping[str, Any]) -> Background:
    """Read background vectors from a `.npy` file, published vectors or an embeddings folder.

    Args:
        path: where they are.
        encoder: `name`, `dim` and `weights` of the encoder that has to have made them. A `.npy`
            file does not say who made it, so of that only the width is checked.

    Raises:
        CurateError: they are missing, damaged, fewer than two, or of another encoder.
    """
    place = local_path(path)
    if place.is_file():
        vectors: NDArray[np.floating] = np.array(read_vectors(place, remedy="write it again"))
    else:
        side = open_vectors(str(place), str(encoder["name"]))
        made_by = side.manifest.config["encoder"]
        keys = ("name",) if isinstance(side, Published) else ("name", "weights")
        if any(made_by[key] != encoder[key] for key in keys):
            raise CurateError(
                f"--background {path}: made by {made_by['name']} or another version of it, not by "
                f"{encoder['name']} as it is used here; embed the background with that."
            )
        vectors = side.all_vectors()
    if vectors.shape[1] != encoder["dim"]:
        raise CurateError(
            f"--background {path}: vectors of width {vectors.shape[1]}, but {encoder['name']} "
            f"gives {encoder['dim']}; embed the background with that."
        )
    if len(vectors) < 2:  # noqa: PLR2004 - one vector has no spread
        raise CurateError(f"--background {path}: holds {len(vectors)} vectors; give many more.")
    if not (np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)).all():
        raise CurateError(f"--background {path}: a vector is zero or not finite; take it out.")
    header = f"{vectors.dtype.str}\0{vectors.shape}\0".encode()
    digest = hashlib.sha256(header + np.ascontiguousarray(vectors).tobytes()).hexdigest()
    return Background(str(path), vectors, digest)
