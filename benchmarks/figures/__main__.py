"""`python -m benchmarks.figures [--write]`."""

import argparse
import sys

from benchmarks.figures.audit import read_accounts, unaccounted, unfounded
from benchmarks.figures.documents import DRAWINGS, documents, faults, renewed
from benchmarks.figures.results import ROOT, Results
from benchmarks.figures.sentences import read_claims
from curate.files import write_bytes


def main() -> None:
    """Say where documents and results differ, after mending them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="bring the documents up to date")
    results, texts = Results(), documents()
    if parser.parse_args().write:
        for name, text in renewed(texts, results).items():
            if text != texts[name]:
                write_bytes(ROOT / name, text.encode())
        for name, draw in DRAWINGS.items():
            write_bytes(ROOT / name, draw(results).encode())
        texts = documents()
    accounts, found = read_accounts(), faults(texts, results)
    for name in texts.keys() - set(accounts.elsewhere):
        claims = [claim for claim in read_claims() if claim.document == name]
        found += [f"{name}: {one}" for one in unaccounted(texts[name], claims, accounts, name)]
        found += [f"{name}: not there: {one}" for one in unfounded(texts[name], accounts, name)]
    print("\n".join(found) or "every figure is what the results say")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
