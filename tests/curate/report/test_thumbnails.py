import base64
import io
from collections.abc import Callable

from PIL import Image

from curate.report.thumbnails import Thumbnail, thumbnails

Draw = Callable[[int, int], bytes]
PLENTY = 10**7


def opened(tile: Thumbnail) -> Image.Image:
    assert tile.uri is not None
    head, _, data = tile.uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_large_images_shrink_and_keep_their_shape(draw: Draw) -> None:
    tile = thumbnails(["a"], {"a": draw(1, 300)}, PLENTY)["a"]
    assert (tile.width, tile.height, tile.tiny) == (450, 300, False)
    assert opened(tile).size == (128, 85)


def test_tiny_images_keep_every_pixel(draw: Draw) -> None:
    tile = thumbnails(["a"], {"a": draw(1, 32)}, PLENTY)["a"]
    assert tile.tiny
    assert opened(tile).size == (48, 32)


def test_a_missing_image_and_a_broken_one_say_so(draw: Draw) -> None:
    shown = thumbnails(["gone", "bad", "cut"], {"bad": b"no", "cut": draw(1, 300)[:500]}, PLENTY)
    assert [tile.problem for tile in shown.values()] == [
        "not available",
        "not an image",
        "failed to decode",
    ]
    assert all(tile.uri is None for tile in shown.values())


def test_a_smaller_budget_gives_smaller_images_not_fewer(draw: Draw) -> None:
    images = {i: draw(i, 300) for i in range(6)}
    full = sum(len(tile.uri or "") for tile in thumbnails(list(images), images, PLENTY).values())
    less = thumbnails(list(images), images, full // 2)
    assert all(tile.uri for tile in less.values())
    assert sum(len(tile.uri or "") for tile in less.values()) <= full // 2


def test_when_nothing_else_helps_the_last_images_are_left_out(draw: Draw) -> None:
    images = {i: draw(i, 300) for i in range(6)}
    shown = thumbnails(list(images), images, 2000)
    given = [tile.uri is not None for tile in shown.values()]
    assert given == sorted(given, reverse=True)
    assert 0 < sum(given) < 6
    assert sum(len(tile.uri or "") for tile in shown.values()) <= 2000
    assert shown[5].problem == "left out to keep the page small"
    assert (shown[5].width, shown[5].height) == (450, 300)


def test_a_key_used_twice_counts_twice(draw: Draw) -> None:
    images = {"a": draw(1, 32)}
    size = len(thumbnails(["a"], images, PLENTY)["a"].uri or "")
    assert thumbnails(["a"], images, size)["a"].uri
    twice = thumbnails(["a", "a"], images, size)
    assert len(twice["a"].uri or "") * 2 <= size


def test_the_same_image_gives_the_same_bytes(draw: Draw) -> None:
    images = {"a": draw(3, 200)}
    assert thumbnails(["a"], images, PLENTY) == thumbnails(["a"], images, PLENTY)
