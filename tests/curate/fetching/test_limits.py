"""Limits that can be kept, and the name by which we ask."""

import pytest

from curate import __version__
from curate.errors import CurateError
from curate.fetching.limits import Clock, FetchError, FetchLimits


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (FetchLimits(timeout=0), "timeout"),
        (FetchLimits(deadline=float("inf")), "deadline"),
        (FetchLimits(max_bytes=-1), "max_bytes"),
        (FetchLimits(host_rate=0), "host_rate"),
        (FetchLimits(redirects=-1), "redirects"),
        (FetchLimits(retries=-1), "retries"),
        (FetchLimits(token="a b"), "user_agent_token"),
        (FetchLimits(token="a\r\nHost: b"), "user_agent_token"),
        (FetchLimits(contact="me@example.org"), "contact"),
        (FetchLimits(contact="https://example.org/)\n"), "contact"),
    ],
)
def test_what_cannot_be_kept_is_named(limits: FetchLimits, name: str) -> None:
    FetchLimits().check()
    with pytest.raises(CurateError, match=f"download: {name} is"):
        limits.check()


def test_the_user_agent_names_us_and_whom_to_ask() -> None:
    limits = FetchLimits(token="my-bot", contact="mailto:me@example.org")
    limits.check()
    expected = f"curate/{__version__} (compatible; my-bot; +mailto:me@example.org)"
    assert limits.user_agent == expected


def test_a_clock_allows_the_shorter_of_timeout_and_what_is_left() -> None:
    clock = Clock(FetchLimits(timeout=10, deadline=60))
    assert clock.allow() == 10
    clock.extend(-55)
    assert 4 < clock.allow() < 5
    clock.extend(-5)
    with pytest.raises(FetchError, match="not done after 60 s") as caught:
        clock.allow()
    assert caught.value.passing
