r"""`curate` beside other tools: the same tasks, data, machine and cores, in one session.

    python benchmarks/peers.py --data DATA --env-root ENVIRONMENTS \
        --out benchmarks/results/peers.json

DATA holds `cifar10` and `photos`. Each peer gets an environment of its own below ENVIRONMENTS, made
by pip with pinned versions unless it is there; --base names an environment whose torch they may
use. Peers run without a network where `unshare` can take it away. A peer that cannot be installed
or fails is a row with the reason. OUT is written anew after each row.

Tasks: copies (near-duplicates of CIFAR-10), embedding (images a second), zero-shot (accuracy and
time), join, attacks, train step; --only takes tasks and names of rows.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from record import write_result
from side_by_side import copies, embedding, others, zeroshot
from side_by_side.costs import FailedRunError, last_words
from side_by_side.environments import CannotInstallError, make
from side_by_side.session import Contestant, Session, versions_of

CONTESTANTS: dict[str, Contestant] = {
    name: contestant
    for task in (copies, embedding, zeroshot, others)
    for name, contestant in task.contestants().items()
}


def main() -> None:
    """Run the chosen contestants, one after the other."""
    arguments = parsed()
    chosen = select(arguments.only)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        session = Session(
            data=arguments.data.absolute(),
            work=Path(scratch),
            environments=arguments.env_root,
            base=arguments.base,
            images=arguments.images,
        )
        for name, contestant in chosen.items():
            rows.append(row(name, contestant, session))
            print(json.dumps(rows[-1]), flush=True)
            figures = {"cores": session.cores, "images": session.images, "rows": rows}
            write_result(arguments.out, figures)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10 and photos")
    parser.add_argument("--env-root", type=Path, required=True, help="folder of environments")
    parser.add_argument("--base", type=Path, help="environment whose packages the peers see")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="tasks or rows")
    parser.add_argument("--images", type=int, help="test images of a quick look")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def select(only: list[str]) -> dict[str, Contestant]:
    """The contestants that are named, or whose task is; all without a name."""
    tasks = {contestant.task for contestant in CONTESTANTS.values()}
    unknown = [name for name in only if name not in CONTESTANTS and name not in tasks]
    if unknown:
        sys.exit(f"--only {unknown[0]}: tasks are {sorted(tasks)}, rows {list(CONTESTANTS)}")
    return {
        name: contestant
        for name, contestant in CONTESTANTS.items()
        if not only or name in only or contestant.task in only
    }


def row(name: str, contestant: Contestant, session: Session) -> dict[str, Any]:
    """What a contestant did, or why it did nothing."""
    about = {"task": contestant.task, "name": name, "environment": contestant.environment}
    try:
        python = session.own_python
        if contestant.environment is not None:
            python = make(contestant.environment, session.environments, session.base)
        versions = versions_of(contestant.environment, python)
        load = [round(value, 1) for value in os.getloadavg()[:1]]
        found = contestant.measure(session, python)
    except (CannotInstallError, FailedRunError) as error:
        return {**about, "failed": str(error)}
    except (LookupError, OSError, ValueError) as error:
        said = last_words(repr(error).encode())
        return {**about, "failed": f"its answer cannot be read: {said}"}
    cost = asdict(found.cost) | {"load_before": load[0]}
    told = {"settings": found.settings, "command": found.command, "versions": versions}
    return {**about, "figures": found.figures, "cost": cost, **told}


if __name__ == "__main__":
    main()
