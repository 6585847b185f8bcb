"""Which index is chosen, and the words that say why."""

import pytest

from indices.faiss_plan import KINDS, choose, readable


def test_small_sets_are_flat_and_large_ones_have_lists() -> None:
    assert choose(200_000, 512).kind == "flat"
    assert choose(200_001, 512).kind == "ivf"
    assert "exactly" in choose(10, 8).reason
    assert "lists, of which a search visits" in choose(10**6, 8).reason


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("count", [1, 2, 38, 39, 100, 5000, 10**6, 4 * 10**8])
def test_lists_suit_the_number_of_vectors(count: int, kind: str) -> None:
    plan = choose(count, 16, kind)  # type: ignore[arg-type]
    assert plan.kind == kind
    assert 1 <= plan.probes <= plan.lists <= max(1, count // 39)
    assert plan.sample == 64 * plan.lists


def test_less_memory_makes_coarser_vectors_and_the_reason_says_so() -> None:
    sizes = {"ivf": "2.2 GB", "ivf-fp16": "1.1 GB", "ivf-sq8": "600 MB"}
    for kind, size in sizes.items():
        memory = int(float(size[:-3]) * {"GB": 10**9, "MB": 10**6}[size[-2:]])
        plan = choose(10**6, 512, memory=memory)
        assert plan.kind == kind
        assert f"within {size}" in plan.reason
    assert plan.reason.startswith("1000000 vectors (528 MB) within 600 MB, ivf would take 2.06 GB,")
    assert choose(10**5, 512, memory=10**9).kind == "flat"
    assert choose(10**5, 512, memory=10**8).kind == "ivf-sq8"


def test_what_does_not_fit_is_refused_with_its_size() -> None:
    with pytest.raises(ValueError, match="528 MB as ivf-sq8, 100 MB are allowed"):
        choose(10**6, 512, memory=10**8)
    with pytest.raises(ValueError, match=r"2\.05 GB as flat, 2 GB are allowed"):
        choose(10**6, 512, "flat", memory=2 * 10**9)


def test_a_given_kind_is_taken_whatever_the_size() -> None:
    assert choose(10**9, 512, "flat").kind == "flat"
    assert choose(10, 512, "ivf-sq8").kind == "ivf-sq8"


def test_sizes_have_three_digits() -> None:
    sizes = {0: "0 bytes", 999: "999 bytes", 1000: "1 kB", 999_499: "999 kB", 999_600: "1 MB",
             2_064_000_000: "2.06 GB", 5e15: "5e+03 TB", 2.5e13: "25 TB"}  # fmt: skip
    assert [readable(size) for size in sizes] == list(sizes.values())
