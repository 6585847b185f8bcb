"""Reading a flow's file: every mistake by its line, with the nearest key that is right."""

import re
from pathlib import Path

import pytest
from flows import read_text

from curate.errors import CurateError
from pipelines.flow.reading import find_flow, read_flow, shipped_flows
from pipelines.flow.steps import build_steps

GOOD = """\
name: x
out: o
sets:
  a: {demo: test}
  b: {demo: train}
dedup:
  c:
    test: a
    train: b
"""
EVAL = "eval: {m: {models: [builtin:tiny-clip], data: {cifar: a}, settings: [cifar]}}\n"


def refused(root: Path, text: str, *changes: str) -> str:
    with pytest.raises(CurateError) as caught:
        read_text(root, text, *changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: x", "nmae: x", "line 1: nmae is no setting (did you mean name?)"),
        ("name: x\n", "", "name is missing"),
        ("demo: test", "dmeo: test", "line 4: sets.a.dmeo is no setting (did you mean demo?)"),
        (
            "demo: test",
            "demo: tets",
            ("line 4: sets.a.demo: Input should be 'test', 'shift' or 'train' (given: 'tets')"),
        ),
        ("demo: test", "demo: test, shards: x", "line 4: sets.a: exactly one of shards"),
        ("demo: test", "download: {url: u}", "line 4: sets.a.download.urls is missing"),
        (
            "demo: test",
            "download: {urls: u, capton: c}",
            "line 4: sets.a.download.capton is no setting (did you mean caption?)",
        ),
        (
            "demo: test",
            "download: {urls: u, options: {thread: 3}}",
            "line 4: sets.a.download.options.thread is no setting (did you mean threads?)",
        ),
        (
            "demo: test",
            "demo: test, size: {samples: 0, shards: 1, bytes: 1}",
            "line 4: sets.a.size.samples: Input should be greater than or equal to 1 (given: 0)",
        ),
        (
            "    train: b",
            "    trian: b",
            ("line 9: dedup.c.trian is no setting (did you mean train?)"),
        ),
        ("train: b", "train: bb", "line 9: dedup.c.train: there is no set 'bb' (did you mean b?)"),
        ("test: a", "test: zebra", "line 8: dedup.c.test: there is no set 'zebra', only a, b"),
        ("test: a", "test: []", "line 8: dedup.c.test: Value should have at least 1 item"),
        (
            "test: a\n",
            "test: a\n    min-recal: 1\n",
            "line 9: dedup.c.min_recal is no setting (did you mean min_recall?)",
        ),
        (
            "test: a\n",
            "test: a\n    min-recall: 1.5\n    search: flat\n",
            "line 9: dedup.c.min_recall: Input should be less than or equal to 1 (given: 1.5)",
        ),
        (
            "test: a\n",
            "test: a\n    out: here\n",
            ("line 9: dedup.c.out: a flow states this elsewhere"),
        ),
        ("test: a\n", "test: a\n    detector: builtin:layuot\n", "did you mean builtin:layout?"),
        (
            "test: a\n",
            "test: a\n    threshold: [0.5, high]\n",
            ("line 9: dedup.c.threshold.1: Input should be a valid number"),
        ),
        (
            "test: a\n",
            "test: a\n    detector: builtin:layout\n    threshold: [0.9, 0.7, 0.6]\n",
            "line 10: dedup.c.threshold: 0.6 is below 0.7, down to which pairs are stored",
        ),
        (
            "test: a\n",
            "test: a\n    calibrate: {image: 3}\n",
            "line 9: dedup.c.calibrate.image is no setting (did you mean images?)",
        ),
        ("  a: {", "  float: {x: 1, ", "line 4: sets.float.x is no setting"),
        ("  a: {", "  ..: {", "line 4: sets...: String should match pattern"),
    ],
)
def test_a_mistake_is_told_by_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert GOOD.count(old) == 1
    told = refused(tmp_path, GOOD.replace(old, new))
    assert words in told
    assert "flow.yaml: " in told


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("cluster: {kind: locla}", "line 10: cluster.kind: Input should be 'process', 'local'"),
        ("cluster: {wrokers: 2}", "line 10: cluster.wrokers is no setting (did you mean workers?)"),
        ("cluster: {pin: true}", "line 10: cluster: pin has no meaning for kind process"),
        (
            "cluster: {kind: local, adaptive: {maxmum: 3}}",
            "line 10: cluster.adaptive.maxmum is no setting (did you mean maximum?)",
        ),
        (
            "needs: {embde: {GPU: 1}}",
            ("line 10: needs.embde: no step is of this kind (did you mean embed?)"),
        ),
        ("device: gpu", "line 10: device: Input should be 'auto', 'cpu' or 'cuda' (given: 'gpu')"),
        (
            "overlap: {adjust: none}",
            ("line 10: overlap.adjust: Input should be 'holm' or 'bonferroni'"),
        ),
        ("train: {t: {data: aa}}", "line 10: train.t.data: there is no set 'aa' (did you mean a?)"),
        (
            "train: {t: {data: a, ids: cc@1}}",
            ("line 10: train.t.ids: there is no dedup entry 'cc' (did you mean c?)"),
        ),
        ("train: {t: {split: d}}", "line 10: train.t.split: there is no dedup entry 'd', only c"),
        ("train: {t: {data: a, recipe: tinny}}", "line 10: train.t: recipe 'tinny': choose from"),
        (
            "train: {t: {data: a, set: {epohcs: 1}}}",
            ("line 10: train.t: recipe tiny: epohcs is no setting (did you mean epochs?)"),
        ),
        (
            "train: {t: {data: a, model: tiny-clip}}",
            ("line 10: train.t.model: 'tiny-clip' is no model"),
        ),
        (
            "train: {t: {data: a, model: u}, u: {data: a, scratch: {epochs: 1}}}",
            (
                "line 10: train.t.model: 'u' is no model; one such as builtin:tiny-clip was "
                "expected, or one that an entry before this one trains"
            ),
        ),
        (
            "train: {t: {data: a, scratch: {epochs: 1}, recipe: tiny, model: b:c}}",
            "line 10: train.t: scratch: trained from nothing, so model, recipe say nothing",
        ),
        (EVAL.replace(": a}", ": aa}"), "line 10: eval.m.data.cifar: there is no set 'aa'"),
        (
            EVAL.replace("a}", "a}, splits: {cifer: c}"),
            ("line 10: eval.m: splits: cifer is not among data (cifar)"),
        ),
        (
            EVAL.replace("a}", "a}, splits: {cifar: d}"),
            "line 10: eval.m.splits.cifar: there is no dedup entry 'd'",
        ),
        (
            EVAL.replace("settings: [cifar]", "suite: quikc"),
            ("line 10: eval.m: suite 'quikc': one of"),
        ),
        (EVAL.replace("[cifar]", "[cifer]"), "line 10: eval.m: setting cifer: no data set"),
        (
            EVAL.replace("builtin:tiny-clip", "tecao") + "train: {tecoa: {data: a}}",
            (
                "line 10: eval.m.models: 'tecao' is neither trained here nor PREFIX:NAME "
                "(did you mean tecoa?)"
            ),
        ),
        (
            EVAL.replace("a}", "a}, surrogate: t") + "train: {t: {data: a, seed: [0, 1]}}",
            "line 10: eval.m.surrogate: 't' is neither trained here nor PREFIX:NAME",
        ),
        ("variables: [1]", "line 10: variables: Input should be a valid dictionary"),
        (
            "variables: {data: x}\ntrain: {t: {data: '${dta}'}}",
            "${dta} is not among variables; did you mean 'data'?",
        ),
        ("name: y", "line 10: name was given before, in line 1"),
        ("train: {t: {data: a, data: b}}", "line 10: train.t.data was given before, in line 10"),
    ],
)
def test_a_mistake_further_down_is_told_by_its_line(tmp_path: Path, more: str, words: str) -> None:
    assert words in refused(tmp_path, f"{GOOD}{more}\n")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path, GOOD.replace("name: x", "nmae: x").replace("demo: train", "demo: t"))
    assert [line.strip()[:7] for line in told.splitlines()[1:]] == ["name is", "line 5:", "line 1:"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a mapping of settings to values was expected"),
        ("- a\n", "a mapping of settings to values was expected"),
        ("a: [\n", "not readable as YAML"),
        ("a:\tb\n\tc: d\n", "line 1, column 3"),
        ("name: \x00\n", "not readable as YAML"),
        ("name: 2020-99-99\n", "not readable as YAML (month must be in 1..12)"),
        ("name: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
        ("a: " + "[" * 1500, "not readable as YAML (maximum recursion depth exceeded"),
        ("name: x\nsets: &s {a: *s}\n", "aliases (*NAME) repeat values without end"),
        ("1: 2\n", "line 1: 1: Keys should be strings"),
    ],
)
def test_what_is_no_flow_is_told_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(CurateError, match="not readable as YAML"):
        read_flow(tmp_path / "f.yaml")


def test_aliases_that_grow_without_measure_are_refused_at_once(tmp_path: Path) -> None:
    rows = ["a0: &a0 [1, 1]"]
    rows += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 40)]
    assert "aliases (*NAME) repeat values" in refused(tmp_path, "\n".join(rows))


def test_an_alias_that_is_used_twice_is_fine(tmp_path: Path) -> None:
    text = GOOD.replace("  c:\n", "  c: &c\n") + "  d: *c\n"
    flow = read_text(tmp_path, text)
    assert flow.dedup["c"] == flow.dedup["d"]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # sparse; more than fits into memory
    with pytest.raises(CurateError, match="larger than 1048576 bytes; no flow is"):
        read_flow(path)


# --- variables and --set --------------------------------------------------------------------------


def test_variables_are_put_in_everywhere(tmp_path: Path) -> None:
    text = GOOD.replace("{demo: test}", "{shards: ['/${d}/${n}.tar', '/y']}")
    flow = read_text(tmp_path, f"{text}variables: {{d: data, n: 3}}\n")
    assert flow.sets["a"].shards == ("/data/3.tar", "/y")


def test_a_variable_is_set_from_outside(tmp_path: Path) -> None:
    text = GOOD.replace("{demo: test}", "{shards: '/${d}'}") + "variables: {d: one}\n"
    assert read_text(tmp_path, text, "variables.d=two").sets["a"].shards == ("/two",)


def test_settings_are_changed_from_outside_with_values_as_in_yaml(tmp_path: Path) -> None:
    flow = read_text(
        tmp_path, GOOD, "dedup.c.threshold=[0.5, auto]", "dedup.c.calibrate={images: 3}", "name=y",
        "cluster.kind=local", "cluster.workers=2", "dedup.c.min-recall=0.5", "dedup.c.search=flat",
    )  # fmt: skip
    entry = flow.dedup["c"]
    assert (flow.name, entry.threshold, flow.cluster.workers) == ("y", (0.5, "auto"), 2)
    assert entry.calibrate is not None
    assert entry.calibrate.images == 3
    assert entry.others == {"min_recall": 0.5, "search": "flat"}


def test_a_change_of_an_alias_leaves_what_it_was_taken_from(tmp_path: Path) -> None:
    text = GOOD.replace("  c:\n", "  c: &c\n") + "  d: *c\n"
    flow = read_text(tmp_path, text, "dedup.d.cap=7")
    assert (flow.dedup["c"].others, flow.dedup["d"].others) == ({}, {"cap": 7})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("dedup.c.cap", "--set dedup.c.cap: NAME=VALUE was expected"),
        ("=3", "--set =3: NAME=VALUE was expected"),
        ("name=[", "--set name=[: '[' is no value"),
        ("dedup.c.threshold=2020-99-99", "is no value (month must be in 1..12)"),
        ("name=" + "[" * 1500, "is no value (maximum recursion depth exceeded"),
        ("name=&a [*a]", "aliases (*NAME) repeat values without end"),
        ("dedpu.c.cap=3", "dedpu is no setting (did you mean dedup?)"),
        ("dedup.c.train.b=1", "line 9: dedup.c.train"),
        ("dedup.d.cap=3", "line 6: dedup.d.test is missing"),
        ("eval.m.limit=3", "eval.m.models is missing"),
        ("sets.a.demo=tets", "line 4: sets.a.demo: Input should be 'test', 'shift' or 'train'"),
    ],
)
def test_a_wrong_change_is_told(tmp_path: Path, change: str, words: str) -> None:
    assert words in refused(tmp_path, GOOD, change)


# --- shipped flows --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_flows())
def test_every_shipped_flow_makes_steps(name: str) -> None:
    flow = read_flow(find_flow(name))
    assert build_steps(flow)[-1].name == "report"


def test_an_unknown_flow_is_told_with_the_nearest() -> None:
    words = "demoo: no such flow; give a .yaml file, or one of .*demo.*did you mean 'demo'"
    with pytest.raises(CurateError, match=words):
        find_flow("demoo")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    with pytest.raises(CurateError, match=re.escape(f"{path}: no such flow")):
        find_flow(str(path))


FINDING = """\
name: x
out: o
sets: {a: {demo: test}, b: {demo: train}}
dedup: {c: {test: a, train: b}}
eval:
  m: {models: builtin:tiny-clip, data: {x: a, y: b}, splits: {x: c}, settings: [x, x.fog.3, y]}
"""


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        ("{model: builtin:tiny-clip, setting: x}", None),
        ("{model: builtin:tiny-clip, setting: x.fog.3, against: builtin:tiny-clip}", None),
        (
            "{model: builtin:tiny-clop, setting: x}",
            r"line 7: finding.model: builtin:tiny-clop on x .*\(did you mean builtin:tiny-clip\?\)",
        ),
        (
            "{model: builtin:tiny-clip, setting: y}",
            "finding.model: builtin:tiny-clip on y is measured with a split by no eval entry",
        ),
        (
            "{model: builtin:tiny-clip, setting: x, against: b}",
            "finding.against: b on x is measured with a split by no eval entry",
        ),
    ],
)
def test_the_result_that_is_told_first_is_one_that_is_compared(
    tmp_path: Path, finding: str, message: str | None
) -> None:
    text = f"{FINDING}finding: {finding}\n"
    if message is None:
        assert read_text(tmp_path, text).finding is not None
    else:
        assert re.search(message, refused(tmp_path, text))
