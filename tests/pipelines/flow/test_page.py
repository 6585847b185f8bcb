"""The last page of a flow: its numbers, its links, and names that are no markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from flows import COPIES, MEASURED, copied, flow_at, go, write_readable_sets

from curate.files import read_json

if TYPE_CHECKING:
    from pathlib import Path


FINDING = {"model": "builtin:tiny-clip", "setting": "cifar10"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_readable_sets(tmp_path_factory.mktemp("flow"))
    assert go(flow_at(root, eval={"main": MEASURED}, finding=FINDING)).exit_code == 0
    return root


def html(root: Path) -> str:
    return (root / "run" / "report" / "index.html").read_text()


def test_every_split_is_shown_with_its_counts(finished: Path) -> None:
    splits = read_json(finished / "run" / "report" / "report.json")["splits"]
    assert [(one["name"], one["threshold"]) for one in splits] == [
        ("dedup/copies", 0.8), ("split/copies/0.9", 0.9),
    ]  # fmt: skip
    for one in splits:
        facts = read_json(finished / "run" / one["folder"] / "split.json")
        assert one["in"] == one["clean"] + one["overlap"] + one["unknown"] == 16
        assert one["clean"] == facts["counts"]["clean"]
    assert splits[0]["overlap"] == 5


def test_every_link_of_the_page_leads_somewhere(finished: Path) -> None:
    links = re.findall(r'<a [^>]*href="([^"#]+)"', html(finished))
    assert len(links) >= 2
    for link in links:
        assert (finished / "run" / "report" / link).is_file(), link


def test_the_page_loads_nothing_from_elsewhere(finished: Path) -> None:
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in html(finished)
    assert not re.search(r'(src|href)="(https?:)?//', html(finished))
    assert "<script" not in html(finished)


def test_what_was_measured_is_summed_up_in_a_sentence(finished: Path) -> None:
    facts = read_json(finished / "run" / "report" / "report.json")
    assert facts["sentence"]
    assert facts["evaluation"].endswith("index.html")


def test_the_page_begins_with_the_result_that_was_singled_out(finished: Path) -> None:
    found = read_json(finished / "run" / "report" / "report.json")["finding"]
    assert found["result"]["images"] == {"all": 16, "clean": 11, "overlap": 5, "control": 11}
    page = html(finished)
    assert f"<h1>{found['headline']}.</h1>" in page
    header = page[: page.index("</header>")]
    assert found["sentence"] in header
    assert header.count("<svg") == 2, "a drawing of it, for a wide and for a narrow page"


def test_some_pairs_are_shown_with_the_way_to_all(finished: Path) -> None:
    page = html(finished)
    pairs = re.findall(r'<li class="pair">.*?</li>', page, re.DOTALL)
    assert len(pairs) == 5
    assert all(pair.count('src="data:image/webp;base64,') == 2 for pair in pairs)
    assert 'href="../dedup/copies/report/index.html">All of them' in page


def test_every_set_that_was_measured_is_shown_by_an_image_of_each_class(finished: Path) -> None:
    (strip,) = re.findall(r'<ul class="strip">.*?</ul>', html(finished), re.DOTALL)
    assert 1 <= strip.count("<li>") <= 8
    assert "data:image/webp;base64," in strip


def test_a_flow_that_singles_nothing_out_begins_with_all(tmp_path: Path, finished: Path) -> None:
    root = copied(finished, tmp_path / "again")
    assert go(flow_at(root, eval={"main": MEASURED})).done[-1] == "report"
    assert read_json(root / "run" / "report" / "report.json")["finding"] is None
    assert "<h1>small</h1>" in html(root)


def test_a_flow_without_models_has_a_page_without_them(tmp_path: Path) -> None:
    root = write_readable_sets(tmp_path)
    go(flow_at(root, dedup={"copies": {**COPIES, "threshold": 0.8}}))
    facts = read_json(root / "run" / "report" / "report.json")
    assert (facts["trained"], facts["evaluation"], facts["sentence"]) == ([], None, None)
    assert [one["name"] for one in facts["pages"]] == ["copies"]
    assert "small" in html(root)


def test_a_page_of_the_same_results_has_the_same_bytes(finished: Path) -> None:
    before = html(finished)
    (finished / "run" / "report" / "index.html").unlink()
    assert go(flow_at(finished, eval={"main": MEASURED}, finding=FINDING)).done == ["report"]
    assert html(finished) == before
