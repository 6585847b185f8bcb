"""`curate plan`: what a flow will take, on so many machines, before it is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import common

if TYPE_CHECKING:
    from pipelines.flow.config import FlowConfig
    from pipelines.planning.rates import Rates


def plan(
    flow: Annotated[str, typer.Argument(help="A .yaml file, or the name of a shipped flow.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: eval.main.limit=100. Repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers. Default: those of the flow's cluster.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="How many of the workers have a GPU.")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="core-hour=X, gpu-hour=X, tb-month=X or tb-read=X. Repeatable."),
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(help="JSON with rates that are other than the shipped ones.")
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="Take rates from this run of a flow instead.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="As if nothing had been done before.")
    ] = False,
    as_json: common.Json = False,
) -> None:
    """Say what a flow will take: units, bytes, FLOPs, hours, money, and what holds it up.

    Nothing is computed. Rates that nobody measured are marked as assumed.

    Examples:
        curate plan imagenet-laion --workers 64 --gpus 64 --price gpu-hour=2.5

        curate plan pipeline.yaml --workers 8 --measured small-run
    """
    from pipelines.flow.reading import find_flow, read_flow
    from pipelines.planning.measured import measured_rates
    from pipelines.planning.plan import read_prices
    from pipelines.planning.rates import read_rates, shipped_rates

    config = read_flow(find_flow(flow), changes or ())
    prices = read_prices(price or [])
    known = shipped_rates()
    if rates is not None:
        known = known.changed(read_rates(rates))
    if measured is not None:
        known = measured_rates(measured, known)
        if rates is not None:  # what is stated counts more than what was seen
            known = known.changed(read_rates(rates))
    print_plan(
        config, known, workers=workers, gpus=gpus, prices=prices, whole=whole, as_json=as_json
    )


def print_plan(
    config: "FlowConfig",
    rates: "Rates | None" = None,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    prices: dict[str, float] | None = None,
    whole: bool = False,
    as_json: bool = False,
) -> None:
    """Print the plan of a flow; see `pipelines.planning.plan.make_plan`."""
    from pipelines.planning.machines import machines_of
    from pipelines.planning.plan import make_plan
    from pipelines.planning.rates import shipped_rates
    from pipelines.planning.words import told

    known = rates or shipped_rates()
    machines = machines_of(config.cluster, known, workers, gpus)
    found = make_plan(config, known, machines, prices, whole=whole)
    common.print_result(found.to_json(), as_json=as_json, text=told(found))
