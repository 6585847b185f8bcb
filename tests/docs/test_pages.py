"""The pages as files: links lead somewhere, paths exist, tables and lines have a shape."""

import re
from pathlib import Path

import pytest
from markdown import ROOT, blocks, documents, prose

PAGES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in documents()]
LONGEST = 250


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-") for words in headings}


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: Path) -> None:
    text = prose(path.read_text("utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES)
def test_files_of_the_source_that_a_page_names_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|yaml|css|js|toml))(?::[^`]*)?`", text))
    named |= set(re.findall(r"`((?:benchmarks|tests|docs)/[\w./-]+)`", text))
    for name in named:
        assert (ROOT / name).exists() or name.startswith("my-parts/"), name


@pytest.mark.parametrize("path", PAGES)
def test_lines_are_not_too_long(path: Path) -> None:
    fences = [block.text for block in blocks(path.read_text("utf-8")) if block.language]
    shown = {line for text in fences for line in text.splitlines()}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        assert len(line) < LONGEST or line in shown, f"{path.name}:{number} has {len(line)}"


@pytest.mark.parametrize("path", PAGES)
def test_tables_and_fences_are_whole(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [re.sub(r"\\\|", "", line) for line in table.splitlines()]
        assert re.fullmatch(r"\|( ?:?-+:? ?\|)+", lines[1]), lines[1]
        assert len({line.count("|") for line in lines}) == 1, lines[0]
    for number, line in enumerate(text.splitlines(), 1):
        assert line == line.rstrip(), f"{path.name}:{number} ends in blanks"


@pytest.mark.parametrize("path", PAGES)
def test_formulas_survive_what_markdown_does_to_them(path: Path) -> None:
    text = re.sub(r"`[^`]*`", "", prose(path.read_text("utf-8")))
    inline = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    for line in inline.splitlines():
        assert line.count("$") % 2 == 0, f"a formula goes over the end of: {line}"
    for formula in re.findall(r"\$\$?([^$]+)\$\$?", text):
        # Markdown takes the backslash from these before a formula is read
        assert not re.search(r"\\[,;!{}_*]", formula), formula
        assert formula.count("{") == formula.count("}"), formula
        assert formula.count(r"\bigl") == formula.count(r"\bigr"), formula


@pytest.mark.parametrize("path", PAGES)
def test_a_page_begins_with_its_one_title(path: Path) -> None:
    titles = re.findall(r"^# .*$", prose(path.read_text("utf-8")), re.MULTILINE)
    allowed = 2 if path.name == "model-card.md" else 1
    assert path.read_text("utf-8").startswith(("# ", "<!--"))
    assert 0 < len(titles) <= allowed


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        reached.add(page)
        for link in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text("utf-8")):
            target = (page.parent / link).resolve()
            if target.exists() and target not in reached:
                left.append(target)
    assert set((ROOT / "docs").rglob("*.md")) <= reached
