from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from html_page import Page
from sample_rows import rows

from curate.errors import CurateError
from curate.report import words
from eval.report import Inputs, build_report
from eval.report.figures import numbers
from eval.report.page import conclusion, headline
from eval.results import Result
from eval.settings import Aim, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHOTS = os.environ.get("CURATE_SCREENSHOTS")


@pytest.fixture(scope="module")
def built(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    build_report(inputs, folder)
    return folder


@pytest.fixture(scope="module")
def page(built: Path) -> Page:
    return Page((built / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def facts(built: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((built / "report.json").read_text(encoding="utf-8"))
    return found


def test_the_page_needs_no_other_file(page: Page) -> None:
    for tag, found in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "form"}
        assert not any(name.startswith("on") for name in found)
        assert "style" not in found
    assert {str(found["src"])[:14] for found in page.all("img")} == {"data:image/png"}
    assert not re.search(r"url\(|@import|http", "".join(page.blocks["style"]))
    assert page.open == []


def test_foreign_names_are_shown_and_do_nothing(page: Page, inputs: Inputs) -> None:
    hostile = inputs.results[-1].model
    assert "<img src=x" in hostile
    assert words.visible(hostile) in page.text
    assert "\u202e" not in page.text


def test_every_section_and_every_result_is_there(page: Page, inputs: Inputs) -> None:
    links = {str(found["href"])[1:] for found in page.all("a") if found.get("class") != "skip"}
    sections = {str(found["id"]) for found in page.all("section")}
    assert links == sections
    assert sections == {
        "settings", "effective", "corruptions", "attacks", "examples", "splits", "thresholds",
        "health", "conclusion", "provenance",
    }  # fmt: skip
    for item in inputs.results:
        assert str(item.setting) in page.text.replace(". ", ".")


def test_the_end_stands_on_the_page_and_in_the_json(
    page: Page, facts: dict[str, Any], inputs: Inputs
) -> None:
    said = conclusion(numbers(inputs))
    assert said is not None
    assert " ".join(said.split()) in page.text
    assert facts["conclusion"] == said
    assert said.startswith("Of 74 results with overlap")


def test_the_json_holds_what_the_page_shows(facts: dict[str, Any], inputs: Inputs) -> None:
    assert len(facts["results"]) == len(inputs.results)
    first = facts["results"][0]
    assert first["numbers"]["accuracy"]["hits"] == inputs.results[0].samples["correct"].sum()
    assert set(first["comparison"]) >= {"full", "clean", "overlap", "control", "change", "random"}
    assert len(facts["clip_benchmark"]) == len(inputs.results)
    assert len(facts["health"]) == 10
    assert [row["model"] for row in facts["effective_robustness"]] == [
        inputs.results[0].model, inputs.results[-1].model,
    ]  # fmt: skip


def test_the_same_inputs_give_the_same_bytes(built: Path, inputs: Inputs, tmp_path: Path) -> None:
    build_report(inputs, tmp_path)
    for name in ("index.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


def test_the_headline_is_the_accuracy_and_what_the_strongest_trusted_attack_leaves(
    inputs: Inputs,
) -> None:
    said = headline(numbers(inputs)).replace("\N{NO-BREAK SPACE}", " ")
    assert said == (
        "builtin:tiny-clip is right on 85.8 % of cifar10, and on 7.2 % under autoattack at 4/255"
    )


def test_an_attack_that_is_not_trusted_makes_no_headline() -> None:
    setting = Setting("a", attack=Aim("fgsm", 4, "native"))
    plain = Result("net", Setting("a"), {}, rows([True, True]))
    beyond = rows([True, False], clean_pred=[0, 0], linf=[4.0, 9.0])
    found = numbers(Inputs((plain, Result("net", setting, {}, beyond))))
    assert headline(found) == "net is right on 100.0\N{NO-BREAK SPACE}% of a"


def test_of_many_models_the_headline_names_none() -> None:
    many = tuple(
        Result(f"net-{right}", Setting("a"), {}, rows([place < right for place in range(5)]))
        for right in range(1, 6)
    )
    found = headline(numbers(Inputs(many))).replace("\N{NO-BREAK SPACE}", " ")
    assert found == "5 models are right on 20.0 % to 100.0 % of a"


def test_a_page_of_one_plain_result_has_only_what_it_has(tmp_path: Path) -> None:
    build_report(Inputs((Result("net", Setting("cifar10"), {}, rows([True, False])),)), tmp_path)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert {found["id"] for found in page.all("section")} == {"settings", "provenance"}
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["conclusion"] is None


def test_an_empty_setting_and_one_without_overlap_have_a_page_too(tmp_path: Path) -> None:
    clean = rows([True, False], split=["clean", "clean"])
    results = (
        Result("net", Setting("a"), {}, clean),
        Result("net", Setting("b"), {}, clean.head(0)),
    )
    build_report(Inputs(results), tmp_path)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "no images" in page.text
    assert "nothing can be said of what overlap adds" in page.text


def test_nothing_makes_no_report(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="at least one result"):
        build_report(Inputs(()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_at_most_two_dozen_examples_are_shown(inputs: Inputs, tmp_path: Path) -> None:
    many = replace(inputs, results=inputs.results[:1], shifts=(), examples=inputs.examples * 7)
    build_report(many, tmp_path)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert len(page.all("img")) == 3 * 24
    assert "Shown are 24 of 28" in page.text


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the path")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = driver.chromium.launch(executable_path=program, args=options)
        yield launched
        launched.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_a_complaint(
    browser: Browser, built: Path, width: int, scheme: Any
) -> None:
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong: list[str] = []
    view.on("console", lambda message: wrong.append(message.text))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.on("dialog", lambda dialog: wrong.append(dialog.message))
    view.goto((built / "index.html").as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    shown = view.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert shown
    wide, narrow = (view.locator(f"#attacks .{name} svg").first for name in ("wide", "narrow"))
    assert wide.is_visible() == (width > 640)
    assert narrow.is_visible() == (width <= 640)
    colours = view.evaluate(
        "[...document.querySelectorAll('.legend .m0, .legend .m1')].map(e =>"
        " getComputedStyle(e, '::before').backgroundColor)"
    )
    assert len(set(colours)) == 2
    if SHOTS:
        view.screenshot(path=f"{SHOTS}/robustness-{scheme}-{width}.png", full_page=True)
    view.close()
    assert wrong == []
