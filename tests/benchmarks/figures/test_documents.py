"""README and docs say what the stored results say, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.figures.audit import read_accounts, unaccounted, unfounded
from benchmarks.figures.documents import documents, faults, renewed
from benchmarks.figures.numbers import NUMBERS
from benchmarks.figures.results import FOLDER, ROOT, Results
from benchmarks.figures.sentences import read_claims

TEXTS = documents()
ACCOUNTS = read_accounts()
AUDITED = sorted(TEXTS.keys() - set(ACCOUNTS.elsewhere))


def test_every_table_sentence_and_drawing_says_what_the_results_say() -> None:
    assert not faults(TEXTS, Results()), "python -m benchmarks.figures --write"


def test_writing_again_changes_nothing() -> None:
    once = renewed(TEXTS, Results())
    assert {name: text.split() for name, text in once.items()} == {
        name: text.split() for name, text in TEXTS.items()
    }
    assert renewed(once, Results()) == once


@pytest.mark.parametrize("name", AUDITED)
def test_every_other_number_is_accounted_for(name: str) -> None:
    claims = [claim for claim in read_claims() if claim.document == name]
    assert not unaccounted(TEXTS[name], claims, ACCOUNTS, name)


@pytest.mark.parametrize("name", AUDITED)
def test_nothing_is_accounted_for_that_is_not_there(name: str) -> None:
    assert not unfounded(TEXTS[name], ACCOUNTS, name)


def test_accounts_are_of_documents_that_there_are() -> None:
    assert {*ACCOUNTS.documents, *ACCOUNTS.elsewhere} <= TEXTS.keys()


def test_every_number_is_used_by_a_sentence() -> None:
    assert {name for claim in read_claims() for name in claim.names} == NUMBERS.keys()


def test_a_result_that_changes_is_seen_in_its_table_and_its_sentences(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "cifar10-detectors.json"
    result = json.loads(path.read_text())
    result["methods"]["builtin:copy"]["recall"]["250"] = 0.123
    path.write_text(json.dumps(result))
    found = faults(TEXTS, Results(tmp_path))
    assert "docs/benchmarks.md: cifar10-detectors is not what the results say" in found
    assert [one for one in found if one.startswith("docs/model-card.md: says 0.651")]
    again = renewed(TEXTS, Results(tmp_path))
    assert not faults(again, Results(tmp_path))
    assert "0.123 / 0.952" in again["docs/model-card.md"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_names_its_command_its_machine_and_its_day(path: Path) -> None:
    result = json.loads(path.read_text())
    script = next(word for word in result["command"].split() if word.endswith(".py"))
    assert (ROOT / script).is_file()
    assert f"--out benchmarks/results/{path.name}" in result["command"]
    assert "/work" not in result["command"]
    assert "cores" in result["machine"]
    assert len(result["date"].split("-")) == 3


def test_every_result_is_shown() -> None:
    results = Results()
    faults(TEXTS, results)
    assert {path.stem for path in FOLDER.glob("*.json")} == results.names_read
