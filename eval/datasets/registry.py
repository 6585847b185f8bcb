"""Test sets by name, and the one way to open them.

A folder may have the set's official layout, or any layout that says itself what is in it: shards,
CLIP_benchmark's, folders of images by class, a split that `curate dedup` wrote (its clean images).
An installed package may bring further sets (`curate.extensions`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.extensions import extension, extensions
from eval.datasets import imagenet, texts, torchvision_sets, videos
from eval.datasets.evalset import Classes, EvalSet, Found, assembled
from eval.datasets.generic import clean_part, image_folders, labels_before, open_stored
from eval.datasets.imagenet import NotThereError, Request
from eval.datasets.texts import IMAGENET, Profile
from eval.shifts.registry import CORRUPTIONS, PERTURBATIONS, SEVERITIES

Layout = Callable[[Request], Found]


@dataclass(frozen=True)
class Entry:
    """A test set that is known.

    Attributes:
        layout: opens it as it is published.
        tree: what its folder holds.
        where: where to get it.
        prompts: the key of its templates and class names.
        count: how many classes its shards have; None: not to be checked.
        size: how many images are published; None: it depends on the variant.
        variants: parts that may be asked for; the first is the one meant without a word.
        severities: of the parts.
    """

    layout: Layout
    tree: str
    where: str
    prompts: str
    count: int | None = None
    size: int | None = None
    variants: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()


_IMAGENETS = {
    "imagenet": Entry(
        imagenet.validation,
        "val/n01440764/*.JPEG, ..., or val/ILSVRC2012_val_*.JPEG with LOC_val_solution.csv",
        "https://www.image-net.org (ILSVRC2012, ILSVRC2012_img_val.tar)",
        IMAGENET, 1000, 50_000,
        ("a-classes", "r-classes", "objectnet-classes", "vid-classes"),
    ),
    "imagenetv2": Entry(
        imagenet.v2,
        "imagenetv2-matched-frequency-format-val/0/*.jpeg to /999/*.jpeg, and -threshold-0.7-, "
        "-top-images-",
        "https://huggingface.co/datasets/vaishaal/ImageNetV2",
        IMAGENET, 1000, 10_000, imagenet.V2_VARIANTS,
    ),
    "imagenet-a": Entry(
        imagenet.imagenet_a, "imagenet-a/n01498041/*.jpg, ... (200 folders)",
        "https://github.com/hendrycks/natural-adv-examples", "imagenet-a", 200, 7_500,
    ),
    "imagenet-r": Entry(
        imagenet.imagenet_r, "imagenet-r/n01443537/*.jpg, ... (200 folders)",
        "https://github.com/hendrycks/imagenet-r", "imagenet-r", 200, 30_000,
    ),
    "imagenet-sketch": Entry(
        imagenet.sketch, "sketch/n01440764/*.JPEG, ...",
        "https://github.com/HaohanWang/ImageNet-Sketch", IMAGENET, 1000, 50_889,
    ),
    "stylized-imagenet": Entry(
        imagenet.stylized, "val/n01440764/*, ...",
        "https://github.com/rgeirhos/Stylized-ImageNet (it is made from ImageNet)",
        IMAGENET, 1000, 50_000,
    ),
    "objectnet": Entry(
        imagenet.objectnet, "images/alarm_clock/*.png, ... (313 folders)", "https://objectnet.dev",
        "objectnet", None, 18_574,
    ),
    "imagenet-vid-robust": Entry(
        videos.vid_robust, "val/ILSVRC2015_val_00000000/000442.JPEG, ...",
        "https://github.com/modestyachts/imagenet-vid-robust-example",
        IMAGENET, None, None, videos.VARIANTS,
    ),
    "ytbb-robust": Entry(
        videos.ytbb_robust,
        "{video}_{time}/frame-*.jpg, ..., and ytbb-robust_metadata/ with anchor_labels.json, "
        "pmk_labels.json, rev_class_idx_map.json, ytbb_class_index.json and "
        "ytbb_robustness_test_anchors_full.csv",
        "https://github.com/modestyachts/imagenet-testbed (src/eval_settings has the metadata)",
        IMAGENET, None, None, videos.VARIANTS,
    ),
    "imagenet-c": Entry(
        imagenet.imagenet_c, "fog/3/n01440764/*.JPEG, ... for each corruption and severity",
        "https://zenodo.org/record/2235448", IMAGENET, 1000, 50_000, CORRUPTIONS, SEVERITIES,
    ),
    "imagenet-p": Entry(
        imagenet.imagenet_p, "translate/n01440764/*.mp4, ... for each perturbation",
        "https://zenodo.org/record/3565846", IMAGENET, None, 50_000, PERTURBATIONS,
    ),
    "tiny-imagenet": Entry(
        imagenet.tiny,
        "tiny-imagenet-200/{wnids.txt,words.txt,val/val_annotations.txt,val/images/}",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip", IMAGENET, 200, 10_000,
    ),
}  # fmt: skip

_FROM_TORCHVISION = {
    "cifar10": ("cifar-10-batches-py/", 10, 10_000),
    "cifar100": ("cifar-100-python/", 100, 10_000),
    "stl10": ("stl10_binary/", 10, 8_000),
    "pcam": ("pcam/camelyonpatch_level_2_split_test_{x,y}.h5", 2, 32_768),
    "sun397": ("SUN397/{ClassName.txt,a/abbey/*.jpg,...}", 397, 108_754),
    "cars": ("stanford_cars/{devkit/,cars_test/,cars_test_annos_withlabels.mat}", 196, 8_041),
    "food101": ("food-101/{images/,meta/test.json}", 101, 25_250),
    "pets": ("oxford-iiit-pet/{images/,annotations/test.txt}", 37, 3_669),
    "flowers": ("flowers-102/{jpg/,imagelabels.mat,setid.mat}", 102, 6_149),
    "dtd": ("dtd/dtd/{images/,labels/test1.txt}", 47, 1_880),
    "eurosat": ("eurosat/2750/AnnualCrop/*.jpg, ...", 10, 27_000),
    "fgvc_aircraft": ("fgvc-aircraft-2013b/data/{images/,variants.txt,...}", 100, 3_333),
    "caltech101": ("caltech101/101_ObjectCategories/accordion/*.jpg, ...", None, 8_677),
    "caltech256": ("caltech256/256_ObjectCategories/001.ak47/*.jpg, ...", 257, 30_607),
    "country211": ("country211/test/AD/*.jpg, ...", 211, 21_100),
}
_OTHERS = {
    "hateful-memes": Entry(
        torchvision_sets.hateful_memes, "img/*.png, test_seen.jsonl, test_unseen.jsonl",
        "https://ai.meta.com/tools/hatefulmemes (second phase)", "hateful-memes", 2,
    ),
    "ucf101": Entry(
        torchvision_sets.ucf101,
        "UCF-101-midframes/Apply_Eye_Makeup/*.jpg, ..., and ucfTrainTestlist/testlist01.txt",
        "https://github.com/KaiyangZhou/CoOp (DATASETS.md) and "
        "https://www.crcv.ucf.edu/data/UCF101.php",
        "ucf101", 101, 3_783,
    ),
}  # fmt: skip


def _from_torchvision(name: str, tree: str, count: int | None, size: int) -> Entry:
    kept = torchvision_sets.KEPT[name]
    where = f"torchvision.datasets.{kept.kind}(ROOT, download=True), or its documentation"
    return Entry(kept, tree, where, name, count, size)


ENTRIES = {
    **_IMAGENETS,
    **{name: _from_torchvision(name, *facts) for name, facts in _FROM_TORCHVISION.items()},
    **_OTHERS,
}
TECOA = (
    "imagenet", "cifar10", "stl10", "cifar100", "sun397", "cars", "food101", "pets", "flowers",
    "dtd", "eurosat", "fgvc_aircraft", "hateful-memes", "pcam", "caltech101", "caltech256",
)  # fmt: skip
"""The 16 sets of TeCoA's tables, in their order (Mao et al. 2023)."""


def entry_of(name: str) -> Entry | None:
    """What is known of a set; None: no set of that name is known."""
    return ENTRIES.get(name) or extension("datasets", name, Entry)


def find_entry(name: str) -> Entry:
    """What is known of a set.

    Raises:
        CurateError: none has that name; says which is nearest.
    """
    entry = entry_of(name)
    if entry is None:
        raise CurateError(f"data set {name!r}: is not known{nearest(name, ENTRIES)}")
    return entry


def known_sets() -> dict[str, Entry]:
    """All sets by name, those of installed packages last."""
    return {**ENTRIES, **extensions("datasets", Entry, ENTRIES)}


def open_evalset(
    name: str,
    root: Path | str,
    *,
    variant: str | None = None,
    severity: int | None = None,
    profile: Profile = "openai",
    split: str = "test",
) -> EvalSet:
    """Open a test set.

    Args:
        name: of `ENTRIES`; or any other for a folder that says its classes itself.
        root: its folder, or the folder of a split that `curate dedup` wrote.
        variant: a part of the set, such as the corruption of ImageNet-C.
        severity: of a corruption, 1 to 5.
        profile: whose class names and templates; templates that stand beside shards are those of
            `openai`.
        split: which of CLIP_benchmark's splits.

    Raises:
        CurateError: no such set or part, nothing is in the folder (says where to get it and what
            was expected), labels and classes do not agree.
    """
    given = Path(root)
    full = ".".join(str(part) for part in (name, variant, severity) if part is not None)
    if not given.exists():
        raise CurateError(f"{given}: no such folder. {_expected(name)}")
    place = clean_part(given)
    entry = entry_of(name)
    if entry is not None:
        request = Request(name, place, *_part(name, entry, variant, severity))
        found = _open_known(entry, request, split)
        key = entry.prompts
    elif variant is None and severity is None:
        found, key = _open_unknown(name, given, place, split), name
    else:
        raise CurateError(f"data set {name!r}: is not known{nearest(name, ENTRIES)}")
    return _with_texts(full, str(given), found, key, profile)


def _part(
    name: str, entry: Entry, variant: str | None, severity: int | None
) -> tuple[str | None, int | None]:
    if variant is not None and variant not in entry.variants:
        known = ", ".join(entry.variants) or "none"
        raise CurateError(
            f"{name}.{variant}: its parts are {known}{nearest(variant, entry.variants)}"
        )
    if severity is not None and severity not in entry.severities:
        raise CurateError(f"{name}.{variant}.{severity}: its severities are {entry.severities}")
    return variant, severity


def _open_known(entry: Entry, request: Request, split: str) -> Found:
    names = texts.known_names(entry.prompts)
    known = names if len(names) == entry.count else ()
    stored = open_stored(request.root, known, split) if request.variant is None else None
    if stored is None:
        try:
            return entry.layout(request)
        except NotThereError as error:
            stored = image_folders(request.root, known) if known else None
            if stored is None:
                raise CurateError(f"{request.root}: {error}. {_expected(request.name)}") from error
    if entry.count is not None and len(stored.names) != entry.count:
        raise CurateError(
            f"{request.root}: {len(stored.names)} classes, but {request.name} has {entry.count}; "
            "was the folder given under the right name?"
        )
    return stored


def _open_unknown(name: str, given: Path, place: Path, split: str) -> Found:
    before = labels_before(given) if place != given else ()
    found = open_stored(place, before, split) or image_folders(place, before)
    if found is None:
        raise CurateError(
            f"{given}: holds neither shards nor folders of images by class. {_expected(name)}"
        )
    wnid = next((label for label in found.names if texts.WNID.fullmatch(label)), None)
    if wnid:
        raise CurateError(
            f"{given}: classes are wnids such as {wnid}, so it is a set of ImageNet's; give it "
            f"under its name{nearest(name, ENTRIES)}"
        )
    return found


def _expected(name: str) -> str:
    entry = entry_of(name)
    if entry is None:
        return (
            f"Data set {name!r} is not known{nearest(name, ENTRIES)}; known are "
            f"{', '.join(ENTRIES)}. Other sets may be shards, CLIP_benchmark's layout or folders "
            "of images by class."
        )
    return f"{name} is to be had from {entry.where}; its folder holds {entry.tree}."


def _with_texts(name: str, place: str, found: Found, key: str, profile: Profile) -> EvalSet:
    profile = texts.check_profile(profile)
    templates: Sequence[str] = texts.templates(key, profile)
    if profile == "openai" and found.templates:
        templates = found.templates
    raw = found.names if found.classes is None else found.classes
    classes: Classes = raw if found.templates and profile == "openai" else ()
    classes = classes or texts.class_names(key, raw, profile)
    if found.classes is None:
        found = replace(found, names=classes)
    found = replace(found, classes=classes, imagenet=texts.imagenet_numbers(raw))
    return assembled(name, place, found, templates)
