"""`curate review`."""

import getpass
import json
import threading
import webbrowser
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from curate.errors import CurateError
from pipelines.cli import common


def review(
    run: Annotated[Path, typer.Argument(help="A finished run of `curate dedup`.")],
    reviewer: Annotated[
        str | None, typer.Option(help="Whose labels these are. Default: your user name.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Score about which pairs are asked first. Default: that of the run's last split."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
    as_json: common.Json = False,
) -> None:
    """Judge pairs on a local web page: same, near, different or unsure.

    Biggest doubts come first; what is removed just above the threshold, what stays just below it.
    Labels go to RUN/labels/REVIEWER.jsonl and are on the disk before the next pair is shown. The
    page is served to this machine only; from another one, forward the port with ssh.

    Examples:
        curate review run

        curate review run --reviewer anna --threshold 0.9

        curate review run --no-open --port 8080     (then: ssh -L 8080:127.0.0.1:8080 HOST)
    """
    from curate.review import Session
    from curate.review.server import serve
    from pipelines.review import review_inputs

    def on_start(url: str) -> None:
        if as_json:
            typer.echo(json.dumps({"url": url, "reviewer": name, "labels": str(labels)}))
        else:
            typer.echo(f"review  {url}\nlabels  {labels}\nCtrl-C ends it; labels are kept.")
        if open_browser:  # some browsers return only when they are closed
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    name = reviewer or _user()
    with closing(Session(review_inputs(run, name, threshold))) as session:
        labels = session.labels
        serve(session, port, on_start)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise CurateError("your user name is not known here; give --reviewer NAME.") from error
