from pathlib import Path

import pytest
from planning import costs, flow, rates, stated

from curate.errors import CurateError
from pipelines.planning.context import Cost
from pipelines.planning.rates import shipped_rates

EMBED = "embed/train/builtin-layout"


def workers(cost: Cost) -> float:
    return cost.seconds(on_driver=False)


def test_embedding_reads_all_images_and_writes_half_precision(tmp_path: Path) -> None:
    cost = costs(flow(tmp_path), rates(metadata__bytes=100))[EMBED]
    assert cost.units == 20
    assert cost.read == 100_000 * 1000
    assert cost.written == 100_000 * (128 * 2 + 100)


def test_embedding_takes_what_its_parts_take(tmp_path: Path) -> None:
    known = rates(
        sample__embed=1, byte__decode=0.01, unit__embed=5,
        **{"prepare__builtin:layout": 2, "forward__core__builtin:layout": 3},
    )  # fmt: skip
    found = costs(flow(tmp_path), known)
    assert workers(found[EMBED]) == pytest.approx(100_000 * (1 + 10 + 2 + 3) + 20 * 5)
    in_two_views = found["embed/test/builtin-layout-views"]
    assert workers(in_two_views) == pytest.approx(1000 * (1 + 10 + 2 * (2 + 3)) + 10 * 5)


def test_on_a_gpu_threads_decode_beside_the_network(tmp_path: Path) -> None:
    known = rates(
        sample__embed=4, byte__decode=0, unit__embed=0,
        **{"prepare__builtin:layout": 0, "forward__gpu__builtin:layout": 1},
    )  # fmt: skip
    alone = costs(flow(tmp_path), known, gpus=True)[EMBED]
    assert workers(alone) == pytest.approx(100_000 * 5)
    beside = costs(flow(tmp_path, threads=2), known, gpus=True)[EMBED]
    assert workers(beside) == pytest.approx(100_000 * 2)
    assert beside.gpu
    on_cores = costs(flow(tmp_path, threads=2, device="cpu"), known, gpus=True)[EMBED]
    assert not on_cores.gpu


def test_a_join_reads_all_vectors_once_and_takes_two_flops_a_column(tmp_path: Path) -> None:
    cost = costs(flow(tmp_path), rates(join__columns=64))["dedup/copies"]
    assert cost.flops == 2 * 64 * 2000 * 100_000
    assert sum(w.bytes for p in cost.phases if p.on_driver for w in p.works) == 100_000 * 256


def test_a_set_against_itself_is_half_a_join(tmp_path: Path) -> None:
    both = costs(flow(tmp_path, entry={"train": "test"}), rates())["dedup/copies"]
    alone = costs(flow(tmp_path, entry={"train": []}), rates())["dedup/copies"]
    assert alone.flops == both.flops / 2


def test_a_fused_join_is_units_and_leaves_no_vectors(tmp_path: Path) -> None:
    found = costs(flow(tmp_path, entry={"fused": True}), rates(metadata__bytes=100))
    assert EMBED not in found
    cost = found["dedup/copies"]
    assert cost.units == 20 + 10  # shards of the train set, and of the test set to write
    assert cost.written - 1000 * 1000 == 100_000 * 100


def test_a_second_look_has_as_many_candidates_as_the_data(tmp_path: Path) -> None:
    entry = {"verify": "pixels", "floor": 0.6}
    found = [
        workers(
            costs(flow(tmp_path, entry=entry), rates(candidates=many, look__pair=1))["dedup/copies"]
        )
        for many in (10, 20, 100, 10_000)
    ]
    assert found[1] - found[0] == pytest.approx(1000, rel=0.01)
    assert found[3] - found[2] < 1  # no more than ten for a test image are looked at


def test_each_kind_of_split_reads_the_set_again(tmp_path: Path) -> None:
    entry = {"write": ["clean", "control"], "threshold": [0.82, 0.9]}
    cost = costs(flow(tmp_path, entry=entry), rates())["split/copies/0.9"]
    assert (cost.units, cost.read, cost.written) == (20, 2_000_000, 2_000_000)


def test_calibration_plants_every_edit_in_every_strength(tmp_path: Path) -> None:
    few, many = (
        costs(flow(tmp_path, entry={"calibrate": {"images": n}}), rates())["calibrate/copies"]
        for n in (10, 20)
    )
    assert workers(many) == pytest.approx(2 * workers(few))
    assert many.units == 20


def test_an_index_is_trained_and_filled(tmp_path: Path) -> None:
    found = costs(flow(tmp_path, entry={"search": "ivf"}), rates(index__vector=1))
    cost = found["index/train/builtin-layout-ivf"]
    assert workers(cost) == pytest.approx(100_000)
    assert cost.units == 20


TRAIN = {"data": "train", "set": {"epochs": None, "updates": 100, "held_out": 100}}


def test_training_takes_three_passes_for_each_step_and_three_more(tmp_path: Path) -> None:
    known = rates(train__share=1, train__image=0, step__train=0,
                  attack__half=1e9, attack__half__robust=4, attack__fall=0.1,
                  **{"forward__large__builtin:tiny-clip": 1})  # fmt: skip
    cost = costs(flow(tmp_path, train={"tecoa": TRAIN}), known)["train/tecoa"]
    before, after = 100 * (2 + 3 * 10), 100 * (2 + 3 * 10 * 0.55)
    assert workers(cost) == pytest.approx(100 * 250 * 9 + before + after)


def test_a_training_from_scratch_is_images_times_epochs(tmp_path: Path) -> None:
    entry = {"data": "train", "scratch": {"epochs": 3}}
    known = rates(scratch__image=0.001, step__scratch=7)
    cost = costs(flow(tmp_path, train={"new": entry}), known)["train/new"]
    assert (cost.units, workers(cost)) == (1, pytest.approx(3 * 100 + 7))


def test_a_model_that_was_trained_against_attacks_withstands_them_longer(tmp_path: Path) -> None:
    entry = {"models": ["builtin:tiny-clip", "tecoa", "plain"], "data": {"photos": "test"},
             "settings": ["photos@pgd-20.eps4"]}  # fmt: skip
    plain = {**TRAIN, "set": {**TRAIN["set"], "loss": "ce", "attack": None}}
    config = flow(tmp_path, train={"tecoa": TRAIN, "plain": plain}, eval={"main": entry})
    found = costs(config, rates(attack__half=1, attack__half__robust=4, attack__fall=0.1))
    assert found["eval/tecoa"].flops > 3 * found["eval/builtin-tiny-clip"].flops
    assert found["eval/plain"].flops == found["eval/builtin-tiny-clip"].flops


def test_processes_share_a_training_and_nodes_take_a_worker_each(tmp_path: Path) -> None:
    known = rates(train__image=0, step__train=0)
    one, two = (
        costs(flow(tmp_path, train={"tecoa": TRAIN | {"nodes": n}}), known)["train/tecoa"]
        for n in (1, 2)
    )
    assert two.units == 2
    assert workers(two) == pytest.approx(workers(one))
    assert two.phases[0].works[0].seconds == pytest.approx(one.phases[0].works[0].seconds / 2)


def test_epochs_are_of_the_set_that_is_trained_on(tmp_path: Path) -> None:
    settings = {"split": "copies", "set": {"epochs": 1, "held_out": 100}}
    entry = {"strip": "train"}
    known = rates(step__train=0, train__image=1, **{"forward__large__builtin:tiny-clip": 0})
    cost = costs(flow(tmp_path, entry=entry, train={"tecoa": settings}), known)["train/tecoa"]
    assert workers(cost) == pytest.approx(100_000, rel=0.01)


def test_an_evaluation_is_settings_times_images_times_passes(tmp_path: Path) -> None:
    entry = {"models": "builtin:tiny-clip", "data": {"photos": "test"}, "limit": 600,
             "settings": ["photos", "photos@pgd-20.eps4"]}  # fmt: skip
    known = rates(eval__image=0, attack__half=4, attack__fall=0.1,
                  **{"forward__large__builtin:tiny-clip": 1})  # fmt: skip
    cost = costs(flow(tmp_path, eval={"main": entry}), known)["eval/builtin-tiny-clip"]
    assert cost.units == 4  # two pieces of each setting
    assert workers(cost) == pytest.approx(600 * (1 + 1 + 0.55 * 60))


def test_images_of_a_shift_are_made_once_for_all_models(tmp_path: Path) -> None:
    entry = {"models": ["builtin:tiny-clip", "tecoa"], "data": {"photos": "test"},
             "settings": ["photos.fog.3", "photos.sequence-tilt"]}  # fmt: skip
    config = flow(tmp_path, train={"tecoa": TRAIN}, eval={"main": entry})
    few, many = (costs(config, rates(eval__shift=seconds)) for seconds in (0, 1))
    first, second = ("eval/builtin-tiny-clip", "eval/tecoa")
    assert workers(many[first]) - workers(few[first]) == pytest.approx(2 * 1000)
    assert workers(many[second]) - workers(few[second]) == pytest.approx(
        1000
    )  # frames are not kept


def test_a_trained_model_costs_what_its_network_does(tmp_path: Path) -> None:
    entry = {"models": ["builtin:tiny-clip", "tecoa"], "data": {"photos": "test"},
             "settings": ["photos"]}  # fmt: skip
    found = costs(flow(tmp_path, train={"tecoa": TRAIN}, eval={"main": entry}), rates())
    assert found["eval/tecoa"].flops == found["eval/builtin-tiny-clip"].flops > 0


def test_a_network_that_nobody_knows_is_named_with_the_remedy(tmp_path: Path) -> None:
    config = flow(tmp_path, entry={"detector": "open_clip:ViT-g-14/laion2b", "floor": 0.8})
    with pytest.raises(CurateError, match=r"open_clip:ViT-g-14.*--rates"):
        costs(config, shipped_rates())


def test_downloads_are_of_the_processes_that_fetch(tmp_path: Path) -> None:
    fetched = {"urls": "list.parquet", "options": {"processes": 4}}
    sets = {"test": stated(1000), "train": {"download": fetched, "size": stated(100)["size"]}}
    cost = costs(flow(tmp_path, sets=sets), rates(download__url=2))["download/train"]
    assert cost.seconds(on_driver=True) == 50
    assert (cost.units, cost.read) == (10, 100_000)
