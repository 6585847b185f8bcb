"""X-Robots-Tag in all its forms."""

import pytest

from curate.fetching.robots import OPT_OUTS, opted_out


@pytest.mark.parametrize(
    "values",
    [
        ["noai"],
        ["NoImageAI"],
        ["index, follow, noai"],
        ["all", "noindex"],
        ["none"],
        ["*: noai"],
        ["curate: noai"],
        [" MyBot : noai , nofollow"],
        ["otherbot: nofollow, mybot: noindex"],
        ["unavailable_after: Sat, 25 Jun 2050 15:00:00 GMT, noai"],
        ["max-snippet: 20, noimageindex"],
    ],
)
def test_these_opt_out(values: list[str]) -> None:
    assert opted_out(values, {"curate", "mybot"}, OPT_OUTS)
    assert not opted_out(values, {"curate", "mybot"}, ())


@pytest.mark.parametrize(
    "values",
    [[], [""], ["all"], ["otherbot: noai"], ["otherbot: nofollow, noai"], ["noaim"], ["nofollow"]],
)
def test_these_do_not(values: list[str]) -> None:
    assert not opted_out(values, {"curate"}, OPT_OUTS)
