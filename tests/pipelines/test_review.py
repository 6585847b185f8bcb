"""`curate review` as people use it: a real run, the real command, a real browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pictures import copies, encoded, picture, sample, write_set, write_shard

from curate.config import DedupConfig
from curate.errors import CurateError
from curate.labels import labels_path, read_labels
from curate.units import run_in_process
from pipelines.dedup import run_dedup
from pipelines.review import review_inputs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHOTS = os.environ.get("CURATE_SCREENSHOTS")


def make_run(root: Path, count: int) -> Path:
    """A run in which every test image has a copy, the first with a hostile name and caption."""
    write_set(root / "train", [range(count)])
    key, members = sample(HOSTILE, copies(picture(0))["mirrored"])
    members["txt"] = HOSTILE.encode()
    rows = [sample(f"k{n:03d}", copies(picture(n))["jpeg"]) for n in range(1, count)]
    write_shard(root / "test" / "0.tar", [(key, members), *rows])
    config = DedupConfig(
        test=(str(root / "test"),), train=(str(root / "train"),), out=root / "run",
        detector="builtin:layout", threshold=0.82,
    )  # fmt: skip
    run_dedup(config, run_in_process)
    return root / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("review"), 4)


@pytest.fixture
def run(finished: Path) -> Path:
    """A run without labels."""
    shutil.rmtree(finished / "labels", ignore_errors=True)
    return finished


@contextmanager
def review(run: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command; gives the address and the process, which is ended as Ctrl-C would."""
    command = [sys.executable, "-m", "pipelines", "review", str(run), "--no-open", "--json", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["url"]
        try:
            yield address, process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
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


class Reviewer:
    """A person at the page; asking for other places, or an error in a script, is noted."""

    def __init__(self, browser: "Browser", address: str, **options: object) -> None:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        self.page: Page = context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", self._note)
        self.page.goto(address)
        self.ready()

    def _note(self, request: object) -> None:
        url = str(getattr(request, "url", ""))
        if not url.startswith("http://127.0.0.1:"):
            self.wrong.append(url)

    def ready(self) -> None:
        self.page.wait_for_selector("body[data-ready=yes]")

    def pair(self) -> str | None:
        return self.page.get_attribute("body", "data-pair")

    def say(self, key: str) -> None:
        """Press a key and wait until another pair stands there."""
        before = self.pair()
        self.page.keyboard.press(key)
        self.page.wait_for_function("before => document.body.dataset.pair !== before", arg=before)

    def label(self, key: str) -> None:
        self.say(key)
        self.ready()

    def shot(self, name: str) -> None:
        """Keep a picture of the page where CURATE_SCREENSHOTS says."""
        if SHOTS:
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(SHOTS, f"review-{name}.png"))


def test_fifty_labels_by_keyboard_survive_a_kill(tmp_path: Path, browser: "Browser") -> None:
    run = make_run(tmp_path, 55)
    keys, words = "sndu1234", ("same", "near", "different", "unsure")
    said: dict[str, str] = {}
    with review(run, "--reviewer", "anna") as (address, process):
        person = Reviewer(browser, address)
        for number in range(50):
            pair = person.pair()
            assert pair is not None
            assert pair not in said
            person.label(keys[number % 8])
            said[pair] = words[number % 4]
        assert "50 of" in person.page.inner_text("#bands [data-band=all]")
        person.shot("50-labels")
        process.kill()
        process.wait()
        person.page.keyboard.press("s")
        person.page.wait_for_function("document.getElementById('alarm').textContent !== ''")
        assert "does not answer" in person.page.inner_text("#alarm")
        assert person.wrong == []
    kept = read_labels(run / "labels")
    assert sorted(kept["label"]) == sorted(said.values())
    with review(run, "--reviewer", "anna") as (address, _):
        again = Reviewer(browser, address)
        assert "50 of" in again.page.inner_text("#bands [data-band=all]")
        assert "50 labels" in again.page.inner_text("#reviewers")
        assert again.pair() not in said
        again.page.keyboard.press("Backspace")
        again.page.wait_for_function(
            "pair => document.body.dataset.pair === pair", arg=list(said)[-1]
        )
        assert "49 of" in again.page.inner_text("#bands [data-band=all]")
        assert again.wrong == []
    assert read_labels(run / "labels").height == 49


def pixels(person: Reviewer, side: str) -> list[int]:
    """The image as it came, as RGB numbers."""
    return person.page.evaluate(
        """id => {
          const image = document.getElementById(id), canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          return [...data].filter((_, n) => n % 4 !== 3);
        }""",
        side,
    )


def find_hostile(person: Reviewer) -> None:
    """Go on to the pair with the hostile name."""
    for _ in range(4):
        if HOSTILE in person.page.inner_text("#about-test"):
            return
        person.say("ArrowRight")
        person.ready()
        person.page.wait_for_selector("#about-test .id")
    raise AssertionError("the hostile name did not come up")


def test_a_hostile_name_is_text_and_a_mirrored_copy_shown_as_it_matched(
    run: Path, browser: "Browser"
) -> None:
    with review(run) as (address, _):
        person = Reviewer(browser, address)
        person.page.wait_for_selector("#about-test .id")
        find_hostile(person)
        assert person.page.inner_text("#about-test .id") == f"0:{HOSTILE}"
        assert person.page.inner_text("#about-test .caption") == HOSTILE
        assert person.page.get_attribute("#test", "alt") == HOSTILE
        assert person.page.locator("img").count() == 2
        assert person.wrong == []
        person.shot("hostile")
        assert "found by the view mirror" in person.page.inner_text("#chips")
        assert pixels(person, "test") == pixels(person, "train")
        person.page.keyboard.press("m")
        person.page.wait_for_selector("#matched[aria-pressed=false]")
        person.page.wait_for_function("document.getElementById('test').src.includes('as=stored')")
        person.ready()
        assert pixels(person, "test") != pixels(person, "train")


def test_two_images_can_be_laid_over_each_other(run: Path, browser: "Browser") -> None:
    with review(run) as (address, _):
        person = Reviewer(browser, address, reduced_motion="reduce")
        page = person.page
        for key, mode in (("f", "flicker"), ("b", "blend"), ("x", "difference"), ("v", "side")):
            page.keyboard.press(key)
            assert page.get_attribute("#stage", "data-mode") == mode
            boxes = [page.locator(f"#stage .{side} .tile").bounding_box() for side in "ab"]
            assert (boxes[0] == boxes[1]) == (mode != "side")
            person.shot(mode)
        page.keyboard.press("f")
        assert page.get_attribute("#auto", "aria-pressed") == "false"
        assert page.locator("#stage .b").is_hidden()
        page.keyboard.press(" ")
        assert page.locator("#stage .a").is_hidden()
        assert page.locator("#stage .b").is_visible()


def test_flicker_runs_by_itself_unless_motion_is_unwelcome(run: Path, browser: "Browser") -> None:
    with review(run) as (address, _):
        page = Reviewer(browser, address, reduced_motion="no-preference").page
        page.keyboard.press("f")
        page.wait_for_selector("#stage.other")
        page.keyboard.press("a")
        assert page.get_attribute("#auto", "aria-pressed") == "false"


def test_another_reviewer_judges_blind_and_agreement_is_told(run: Path, browser: "Browser") -> None:
    with review(run, "--reviewer", "ben") as (address, _):
        person = Reviewer(browser, address)
        for _ in range(3):
            person.label("d")
    with review(run, "--reviewer", "anna") as (address, _):
        person = Reviewer(browser, address)
        assert "judged by 1, hidden" in person.page.inner_text("#chips")
        assert "ben" not in person.page.inner_text("section.pair")
        for key in "dds":
            person.label(key)
        assert "ben says different" in person.page.inner_text("#status")
        assert "67 % of 3 pairs" in person.page.inner_text("#reviewers")
        person.shot("blind")


def test_it_fits_on_a_phone(run: Path, browser: "Browser") -> None:
    size = {"width": 390, "height": 844}
    with review(run) as (address, _):
        person = Reviewer(browser, address, viewport=size, has_touch=True, is_mobile=True)
        page = person.page
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for label in ("same", "near", "different", "unsure"):
            box = page.locator(f"[data-label={label}]").bounding_box()
            assert box is not None
            assert box["height"] >= 44
            assert box["y"] + box["height"] <= 844
        person.shot("phone")
        before = person.pair()
        page.tap("[data-label=same]")
        page.wait_for_function("before => document.body.dataset.pair !== before", arg=before)
    assert read_labels(run / "labels")["label"].to_list() == ["same"]


def test_it_can_be_used_by_keyboard_and_is_named_for_readers(run: Path, browser: "Browser") -> None:
    with review(run) as (address, _):
        page = Reviewer(browser, address).page
        page.wait_for_selector("#about-test .caption")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, img")].filter((node) => {
              const labels = [...(node.labels ?? [])].map((label) => label.textContent).join("");
              const own = node.textContent + (node.ariaLabel ?? "") + (node.alt ?? "");
              return !(own + labels).trim();
            }).map((node) => node.outerHTML)"""
        )
        assert nameless == []
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("s")
        page.keyboard.press("Escape")
        assert page.locator("#help").is_hidden()
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert read_labels(run / "labels").height == 0


def test_a_band_can_be_judged_alone_to_its_end(run: Path, browser: "Browser") -> None:
    with review(run, "--threshold", "0.999") as (address, _):
        person = Reviewer(browser, address)
        buttons = person.page.locator("#bands button[data-band]")
        names = [buttons.nth(n).get_attribute("data-band") for n in range(buttons.count())]
        assert names[0] == "all"
        assert len(names) > 2
        person.page.click(f"[data-band={names[1]}]")
        person.ready()
        total = int(person.page.inner_text("#place").split()[-1])
        for _ in range(total):
            person.say("s")
            if person.pair() is not None:
                person.ready()
        assert "Every pair here is judged" in person.page.inner_text("#heading")


def test_pairs_that_calibrate_drew_come_first(tmp_path: Path, browser: "Browser") -> None:
    run = make_run(tmp_path, 4)
    drawn = ["calibrate", run, "--plan", "2", "--copies", "0", "--json"]
    found = subprocess.run(
        [sys.executable, "-m", "pipelines", *drawn], check=True, capture_output=True, text=True
    )
    pairs = json.loads(found.stdout)["plan"]["pairs"]
    assert 0 < pairs < 4
    with review(run, "--reviewer", "anna") as (address, _):
        person = Reviewer(browser, address)
        row = person.page.locator("#bands [data-band=plan]")
        assert row.get_attribute("aria-pressed") == "true"
        assert f"0 of {pairs} by you" in row.inner_text()
        person.shot("plan")
        for _ in range(pairs):
            person.say("s")
            if person.pair() is not None:
                person.ready()
        assert person.page.inner_text("#score") == "Every pair here is judged"
        assert f"{pairs} of {pairs} by you" in row.inner_text()
        assert person.wrong == []
    with review(run, "--reviewer", "anna") as (address, _):
        person = Reviewer(browser, address)
        pressed = person.page.get_attribute("#bands [data-band=all]", "aria-pressed")
        assert pressed == "true", "what was drawn is judged"


def test_a_second_server_for_the_same_reviewer_is_refused(run: Path) -> None:
    with review(run, "--reviewer", "anna"):
        command = [sys.executable, "-m", "pipelines", "review", str(run), "--reviewer", "anna"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "another `curate review` writes as anna" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_ends_quietly_on_a_signal(run: Path) -> None:
    with review(run) as (_, process):
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_threshold_is_that_of_the_last_split_unless_told(run: Path) -> None:
    assert review_inputs(run, "anna").threshold == 0.82
    assert review_inputs(run, "anna", 0.9).threshold == 0.9
    with pytest.raises(CurateError, match="floor"):
        review_inputs(run, "anna", 0.1)


def test_a_run_whose_images_have_gone_can_still_be_opened(tmp_path: Path) -> None:
    write_set(tmp_path / "train", [range(3)])
    write_shard(tmp_path / "test" / "0.tar", [sample("a", encoded(picture(1)))])
    config = DedupConfig(
        test=(str(tmp_path / "test"),), train=(str(tmp_path / "train"),), out=tmp_path / "run",
        detector="builtin:layout",
    )  # fmt: skip
    run_dedup(config, run_in_process)
    shutil.rmtree(tmp_path / "train")
    found = review_inputs(tmp_path / "run", "anna")
    assert found.train == "not where they were embedded"
    assert found.names == {"test": "test", "train": "train"}
    assert not labels_path(tmp_path / "run", "anna").exists()
