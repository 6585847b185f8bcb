"""The last page of a flow: its numbers, its links, and names that are no markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from flows import COPIES, MEASURED, flow_at, go, write_readable_sets

from curate.files import read_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_readable_sets(tmp_path_factory.mktemp("flow"))
    assert go(flow_at(root, eval={"main": MEASURED})).exit_code == 0
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
    links = re.findall(r'href="([^"#]+)"', html(finished))
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
    assert go(flow_at(finished, eval={"main": MEASURED})).done == ["report"]
    assert html(finished) == before
