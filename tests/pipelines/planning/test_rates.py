import json
from pathlib import Path

import pytest

from curate.errors import CurateError
from pipelines.planning.networks import facts_name, forward, width
from pipelines.planning.rates import Rate, Rates, read_rates, shipped_rates


def test_every_shipped_rate_says_what_it_rests_on() -> None:
    rates = shipped_rates()
    for name, fact in rates.facts(rates.names).items():
        assert fact["unit"], name
        assert fact["of"], name
        assert fact["source"] != "given", name


def test_no_shipped_rate_of_a_gpu_claims_to_be_measured() -> None:
    rates = shipped_rates()
    of_gpus = {name for name in rates.names if name.startswith("gpu.")}
    assert of_gpus
    assert rates.assumed(of_gpus) == sorted(of_gpus)


def test_rates_that_were_asked_for_are_noted() -> None:
    rates = Rates({"a": Rate(value=1), "b": Rate(value=2, source="assumed")})
    assert rates("b") == 2
    assert rates.used == {"b"}
    assert rates.assumed(rates.used) == ["b"]
    assert rates.fresh().used == set()


def test_the_first_rate_that_is_known_is_taken() -> None:
    rates = Rates({"general": Rate(value=3)})
    assert rates.first("special", "general") == 3
    with pytest.raises(CurateError, match="the rate other is not known"):
        rates.first("special", "other")


def test_an_unknown_rate_names_the_nearest_and_the_remedy() -> None:
    with pytest.raises(CurateError, match=r"did you mean 'join.item'.*--rates"):
        Rates({"join.item": Rate(value=1)})("join.items")


def test_a_file_of_rates_has_numbers_or_mappings(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"a": 2, "b": {"value": 3, "source": "measured"}}))
    found = Rates({}).changed(read_rates(path))
    assert (found("a"), found("b")) == (2, 3)
    assert found.facts({"a"})["a"]["source"] == "given"


@pytest.mark.parametrize("value", [-1, "fast", None, {"value": -2}, {"speed": 1}, [1]])
def test_a_rate_that_is_no_number_is_named(tmp_path: Path, value: object) -> None:
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"join.item": value}))
    with pytest.raises(CurateError, match=r"rates.json: join.item: a number of 0 or more"):
        read_rates(path)


def test_a_file_of_rates_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"nowhere\.json: there is no such file"):
        read_rates(tmp_path / "nowhere.json")


def test_weights_do_not_change_what_a_network_costs() -> None:
    assert facts_name("open_clip:ViT-L-14-quickgelu/openai") == "open_clip:ViT-L-14"
    assert facts_name("timm:resnet50.a1_in1k") == "timm:resnet50"
    assert facts_name("phash:dhash") == "phash"
    assert facts_name("builtin:copy") == "builtin:copy"


def test_a_measured_network_counts_before_its_flops() -> None:
    name = "open_clip:ViT-B-32/openai"
    known = {"flops.open_clip:ViT-B-32": Rate(value=100), "core.flops": Rate(value=10),
             "gpu.peak": Rate(value=1000), "gpu.utilisation": Rate(value=0.5)}  # fmt: skip
    rates = Rates(known)
    assert forward(rates, name, gpu=False) == 10
    assert forward(rates, name, gpu=True) == 0.2
    assert (
        forward(rates.changed({"forward.gpu.open_clip:ViT-B-32": Rate(value=7)}), name, gpu=True)
        == 7
    )


def test_flops_of_published_networks_are_those_that_open_clip_states() -> None:
    rates = shipped_rates()
    assert rates("flops.open_clip:ViT-B-32") == pytest.approx(8.82e9, rel=0.01)
    assert rates("flops.open_clip:ViT-L-14") == pytest.approx(162.03e9, rel=0.01)
    assert width(rates, "open_clip:ViT-L-14/laion2b_s32b_b82k") == 768
