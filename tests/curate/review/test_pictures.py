"""Images for the page: decoded under limits, encoded anew, small ones exact to the pixel."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, picture, sample, write_shard
from PIL import Image

from curate.discover import open_dataset
from curate.lookup import Samples
from curate.review import pictures as subject
from curate.review.pictures import PictureError, Pictures
from curate.shards import Dataset
from curate.views import VIEWS


def pictures_of(root: Path, images: dict[str, bytes], extension: str = "png") -> Pictures:
    rows = [sample(key, data, extension=extension) for key, data in images.items()]
    samples = Samples(open_dataset(str(write_shard(root / "0.tar", rows))))
    return Pictures({"test": samples, "train": "no images"})


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_small_image_keeps_its_pixels(tmp_path: Path) -> None:
    image = picture(1, 32)
    data = encoded(image)
    found = pictures_of(tmp_path, {"a": data}).get("test", "0:a")
    assert (np.asarray(opened(found.data)) == np.asarray(image)).all()
    assert (found.kind, found.width, found.height) == ("image/png", 32, 32)
    assert (found.stored, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (found.label, found.caption) == ("0", "picture a")


def test_a_large_image_is_made_smaller_and_its_size_told(tmp_path: Path) -> None:
    data = encoded(picture(1, 40).resize((5000, 2500)), "JPEG")
    pictures = pictures_of(tmp_path, {"a": data}, "jpg")
    view, full = pictures.get("test", "0:a"), pictures.get("test", "0:a", size="full")
    assert (view.kind, view.width, view.height) == ("image/jpeg", 5000, 2500)
    assert opened(view.data).size == (1024, 512)
    assert opened(full.data).size == (4096, 2048)


@pytest.mark.parametrize("view", ["mirror", "rot90", "zoom", "mirror-rot90"])
def test_an_image_is_shown_as_it_matched(tmp_path: Path, view: str) -> None:
    image = picture(2, 40)
    found = pictures_of(tmp_path, {"a": encoded(image)}).get("test", "0:a", view)
    assert (np.asarray(opened(found.data)) == np.asarray(VIEWS[view](image))).all()


def test_a_view_that_nobody_knows_shows_the_image_as_it_is(tmp_path: Path) -> None:
    pictures = pictures_of(tmp_path, {"a": encoded(picture(2))})
    assert pictures.get("test", "0:a", "later").data == pictures.get("test", "0:a").data


def test_nothing_of_the_stored_bytes_gets_through(tmp_path: Path) -> None:
    secret = b"<script>alert(1)</script>"
    data = encoded(picture(1), "JPEG", comment=secret) + secret
    assert data.count(secret) == 2
    found = pictures_of(tmp_path, {"a": data}, "jpg").get("test", "0:a")
    assert secret not in found.data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "zero bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "not an image"),
        (encoded(picture(1))[:-40], "failed to decode"),
    ],
)
def test_what_is_no_image_is_named_and_not_served(tmp_path: Path, data: bytes, why: str) -> None:
    pictures = pictures_of(tmp_path, {"a": data})
    with pytest.raises(PictureError, match=why):
        pictures.get("test", "0:a")


def test_images_that_are_not_there_are_told(tmp_path: Path) -> None:
    pictures = pictures_of(tmp_path, {"a": encoded(picture(1))})
    with pytest.raises(PictureError, match="not in its shard any more"):
        pictures.get("test", "0:b")
    with pytest.raises(PictureError, match="no images"):
        pictures.get("train", "0:a")
    (tmp_path / "0.tar").unlink()
    with pytest.raises(PictureError, match="its shard cannot be read"):
        Pictures({"test": Samples(_gone(tmp_path)), "train": ""}).get("test", "0:a")


def _gone(root: Path) -> Dataset:
    path = write_shard(root / "0.tar", [sample("a", encoded(picture(1)))])
    dataset = open_dataset(str(path))
    path.unlink()
    return dataset


def test_images_are_kept_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = pictures_of(tmp_path, {f"k{n}": encoded(picture(n)) for n in range(6)})
    first = pictures.get("test", "0:k0")
    assert pictures.get("test", "0:k0") is first
    monkeypatch.setattr(subject, "_CACHE", 3 * len(first.data))
    for n in range(6):
        pictures.get("test", f"0:k{n}")
    assert pictures._bytes == sum(len(kept.data) for kept in pictures._kept.values())
    assert pictures._bytes <= 3 * len(first.data)
    assert pictures.get("test", "0:k0") is not first
