"""What texts are made of: class names and templates of each set, in two profiles.

`openai`: the names and the ensembles of templates that OpenAI published for CLIP, as open_clip and
CLIP_benchmark have them. `tecoa`: what TeCoA's code makes (Mao et al. 2023): one template for each
set, names in lower case in which `_`, `-` and `/` are spaces, the first word of WordNet for each
ImageNet class; some classes then share one name.

The lists are in `data/`, with source and licence; ImageNet's names come from open_clip, its wnids
and WordNet's words from timm.
"""

import json
import re
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from curate.encoders.base import nearest
from curate.errors import CurateError
from eval.datasets.evalset import Classes
from eval.datasets.generic import tidy

WNID = re.compile(r"n\d{8}")
Profile = Literal["openai", "tecoa"]
PROFILES: tuple[Profile, ...] = get_args(Profile)

IMAGENET = "imagenet"
_IMAGENETS = (IMAGENET, "imagenet-a", "imagenet-r", "objectnet")
_PLAIN = ("a photo of a {}.",)
_YEAR = re.compile(r" \d{4}$")
_SEPARATORS = str.maketrans("_-/", "   ")


@cache
def data(name: str) -> dict[str, Any]:
    """One of the lists beside this module."""
    text = resources.files("eval.datasets").joinpath("data", f"{name}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def check_profile(name: str) -> Profile:
    """The name of a profile.

    Raises:
        CurateError: there is none of that name.
    """
    for profile in PROFILES:
        if profile == name:
            return profile
    raise CurateError(
        f"profile {name!r}: one of {', '.join(PROFILES)} was expected{nearest(name, PROFILES)}"
    )


@cache
def imagenet_wnids() -> Classes:
    """The WordNet ids of ImageNet's 1,000 classes, in the order of their numbers."""
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo()
    return tuple(info.label_names())


def imagenet_numbers(classes: Classes) -> tuple[int, ...] | None:
    """The numbers of WordNet ids among ImageNet's 1,000 classes; None if some are none of them."""
    if not all(WNID.fullmatch(name) for name in classes):
        return None
    numbers = {wnid: number for number, wnid in enumerate(imagenet_wnids())}
    return tuple(numbers[name] for name in classes) if numbers.keys() >= set(classes) else None


@cache
def imagenet_names(profile: Profile) -> Classes:
    """The names of ImageNet's 1,000 classes, in the order of their numbers."""
    if profile == "openai":
        from open_clip import IMAGENET_CLASSNAMES

        return tuple(IMAGENET_CLASSNAMES)
    return tuple(_refined(words.split(",")[0]) for words in wordnet())


@cache
def wordnet() -> Classes:
    """WordNet's words for each of ImageNet's 1,000 classes, with commas between them."""
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo()
    return tuple(info.index_to_description(number) for number in range(info.num_classes()))


def subset(name: str) -> Classes:
    """The wnids of ImageNet-A or ImageNet-R, in the order of ImageNet's classes."""
    wnids = imagenet_wnids()
    return tuple(wnids[number] for number in data("imagenet_subsets")["classes"][name])


def templates(key: str, profile: Profile) -> tuple[str, ...]:
    """The templates of a set; `{}` takes the class name."""
    if profile == "tecoa":
        every = data("tecoa_prompts")["templates"]
        return tuple(every.get(key, every["*"]))
    if key in _IMAGENETS:
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    return tuple(data("openai_prompts")["templates"].get(key, _PLAIN))


def known_names(key: str) -> Classes:
    """The names of a set's classes in the order of their numbers; empty: only the disk tells."""
    if key == IMAGENET:
        return imagenet_names("openai")
    if key in data("imagenet_subsets")["classes"]:
        return class_names(key, subset(key), "openai")
    return tuple(data("openai_prompts")["classes"].get(key, ()))


def class_names(key: str, found: Classes, profile: Profile) -> Classes:
    """The names that texts are made of.

    Args:
        key: of the set's prompts.
        found: the names, folders or wnids of classes that are on disk, in the order of numbers.
        profile: of `PROFILES`.
    """
    if key in _IMAGENETS:
        names = dict(zip(imagenet_wnids(), imagenet_names(profile), strict=True))
        found = tuple(names.get(name, name) for name in found)
        return tuple(map(_refined, found)) if profile == "tecoa" else found
    known = known_names(key)
    if profile == "openai":
        return known if len(known) == len(found) else tuple(map(tidy, found))
    return _tecoa(key, found, known)


def _tecoa(key: str, found: Classes, known: Classes) -> Classes:
    lists = data("tecoa_prompts")
    fixed: Classes = tuple(lists["classes"].get(key, ()))
    if len(fixed) == len(found):
        return fixed
    if len(known) == len(found) and key not in lists["from_folders"]:
        found = known
    renamed = lists["renamed"].get(key, {})
    found = tuple(renamed.get(name, name) for name in found)
    if key == "country211":  # the one set whose names keep their capitals
        return found
    if key == "cars":
        found = tuple(_YEAR.sub("", name) for name in found)
    return tuple(map(_refined, found))


def _refined(name: str) -> str:
    return name.lower().translate(_SEPARATORS).strip()
