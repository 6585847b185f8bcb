import hashlib

from curate.report import provenance


def test_flatten_names_every_plain_value() -> None:
    value = {"a": {"b": 1, "c": [0.5, 1.5]}, "d": None, "e": [{"f": "x"}, {"f": True}], "g": {}}
    assert list(provenance.flatten(value)) == [
        ("a.b", "1"),
        ("a.c", "0.5, 1.5"),
        ("d", "null"),
        ("e.0.f", "x"),
        ("e.1.f", "true"),
    ]


def test_long_lists_say_how_many_values_they_hold() -> None:
    assert list(provenance.flatten({"mean": list(range(512))})) == [("mean", "512 values")]


def test_a_plain_value_takes_the_name_it_is_given() -> None:
    assert list(provenance.flatten("sscd", "detector")) == [("detector", "sscd")]


def test_input_digest_does_not_depend_on_the_order_of_the_inputs() -> None:
    inputs = [{"name": f"{i}.tar", "sha256": str(i) * 64, "bytes": i} for i in range(3)]
    (one,) = provenance.artifacts({"m": {"kind": "k", "id": "i", "inputs": inputs}})
    (two,) = provenance.artifacts({"m": {"kind": "k", "id": "i", "inputs": inputs[::-1]}})
    assert one == two
    assert (one.inputs, one.input_bytes) == (3, 3)
    lines = "".join(f"{item['sha256']}  {item['name']}\n" for item in inputs)
    assert one.input_digest == hashlib.sha256(lines.encode()).hexdigest()


def test_a_changed_input_changes_the_digest() -> None:
    made = [
        provenance.artifacts({"m": {"inputs": [{"name": "a", "sha256": sha, "bytes": 1}]}})[0]
        for sha in ("0", "1")
    ]
    assert made[0].input_digest != made[1].input_digest


def test_an_artifact_without_inputs_has_no_digest() -> None:
    (made,) = provenance.artifacts({"m": {}})
    assert (made.inputs, made.input_digest, made.config) == (0, "", ())


def test_versions_that_disagree_are_both_named() -> None:
    found = provenance.versions({
        "a": {"versions": {"torch": "2.15", "faiss": "1"}},
        "b": {"versions": {"torch": "2.11"}},
        "c": {},
    })  # fmt: skip
    assert found == {"faiss": "1", "torch": "2.11, 2.15"}
