import math

from train.schedule import warmup_cosine


def test_rate_rises_in_a_straight_line_to_the_full_rate() -> None:
    assert [warmup_cosine(step, 100, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_rate_falls_by_half_a_cosine_to_almost_nothing() -> None:
    rates = [warmup_cosine(step, 100, 20) for step in range(20, 100)]
    assert rates[0] == 1.0
    assert math.isclose(rates[40], 0.5)
    assert 0 < rates[-1] < 1e-3
    assert rates == sorted(rates, reverse=True)


def test_without_warmup_the_first_update_has_the_full_rate() -> None:
    assert warmup_cosine(0, 10, 0) == 1.0


def test_a_warmup_longer_than_the_run_never_reaches_the_full_rate() -> None:
    assert warmup_cosine(9, 10, 100) == 0.1
