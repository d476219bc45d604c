"""Fit one posterior twice with one library, in this process: what ``experiments.peers.fresh`` starts."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from experiments.compare import found
from experiments.peers import fits
from experiments.peers.timing import write


def main() -> None:
    """Load the library, fit, and write the result to a file."""
    parser = argparse.ArgumentParser(prog="python -m experiments.peers", description=__doc__)
    parser.add_argument("peer", choices=found.names(fits), help="a file of experiments/peers/fits")
    parser.add_argument("name", help="the posterior, as in the database")
    parser.add_argument("--draws", type=int, default=1000, help="of each of four chains (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="an .npz file")
    asked = parser.parse_args()
    peer = found.part(fits, asked.peer, "peer")
    for library in peer.NEEDS:
        importlib.import_module(library)
    write(asked.out, peer.run(asked.name, asked.draws, asked.seed))


if __name__ == "__main__":
    main()
