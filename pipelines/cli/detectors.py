"""`curate detectors`."""

from dataclasses import asdict

import typer

from pipelines.cli import common


def detectors(as_json: common.Json = False) -> None:
    """List the detectors: threshold, views of a test image, and what the threshold rests on.

    Each is given by its name to --detector; what is written in capitals stands for any name or
    file. Those of sscd and isc need their published weights: asked for without, they say where
    these are.

    Examples:
        curate detectors

        curate detectors --json
    """
    from curate.detectors import all_detectors
    from curate.views import VIEWS

    known = all_detectors()
    found = {"detectors": [asdict(detector) for detector in known], "views": list(VIEWS)}
    lines = [
        line
        for each in known
        for line in (
            typer.style(each.encoder, bold=True),
            f"    >= {each.threshold:g}, stored from {each.floor:g}, views {','.join(each.views)}",
            f"    {each.evidence}",
        )
    ]
    lines.append(f"Views for --views: {', '.join(VIEWS)}")
    common.print_result(found, as_json=as_json, text="\n".join(lines))
