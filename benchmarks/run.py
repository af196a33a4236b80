"""Runs the benchmarks that take minutes, and with --long all of them.

The environment variable JENSEN_PEERS names the Python of the peers' environment (benchmarks/README.md); without it
jensen and the loop by hand are measured alone, and what only compares is left out.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Script(NamedTuple):
    """One benchmark.

    Attributes:
        name: Its file.
        quick: Its arguments where minutes are to be spent; None: leave it out then.
        long: Its arguments where hours may be.
        python: Whose environment runs it: "own"; "peers", or its own where there is none; "only peers".
        data: Whether it needs the folder that JENSEN_DATA names.
    """

    name: str
    quick: tuple[str, ...] | None = ()
    long: tuple[str, ...] = ()
    python: str = "own"
    data: bool = False


SCRIPTS = (
    Script("throughput.py", python="peers"),
    Script("evaluation_speed.py", long=("--memory-long",), python="peers"),
    Script("gradients.py"),
    Script("processes.py"),
    Script("checkpointing.py"),
    Script("cost.py"),
    Script("streaming.py"),
    Script("kills.py", quick=("--kills", "20")),
    Script("factor_graphs.py"),
    Script("information.py"),
    Script("exact_models.py", long=("--full",), python="peers"),
    Script("exact_memory.py", long=("--full",)),
    Script("known_data.py"),
    Script("gap.py"),
    Script("score_variance.py"),
    Script("minibatch_vi.py", long=("--rows", "1000000")),
    Script("posteriordb/check.py", python="only peers", data=True),
    Script("posteriordb/vi.py", quick=("--quick",), data=True),
    Script("posteriordb/nuts.py", quick=("--quick",), data=True),
    Script("weights_speed.py", python="peers"),
    Script("laplace_speed.py", quick=("--quick",), python="only peers"),
    Script("online.py", quick=("--quick",), long=("--mnist",)),
    Script("uci_regression.py", quick=("--quick",), data=True),
    Script("mnist_weights.py", quick=None),
    Script("mnist_static.py", quick=None),
    Script("pythae_recipe.py", quick=None, python="only peers"),
    Script("iwae_table.py", quick=None),
)


def call(python: str, script: str, *arguments: str) -> int:
    """Runs one script with jensen's source in reach; its exit status."""
    print(f"\n{script} {' '.join(arguments)}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src")}
    return subprocess.run([python, str(HERE / script), *arguments], env=environment, check=False).returncode


def main() -> None:
    """Runs them one after the other; fails at the end if one did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="also those that take hours")
    arguments = parser.parse_args()
    peers = os.environ.get("JENSEN_PEERS")
    if peers is None:
        print(
            "JENSEN_PEERS is not set: jensen and the loop by hand are measured alone; see benchmarks/README.md"
        )
    failed: list[str] = []
    for script in SCRIPTS:
        options = script.long if arguments.long else script.quick
        if options is None:
            continue
        if script.data and "JENSEN_DATA" not in os.environ:
            print(f"\n{script.name} is left out: it needs JENSEN_DATA")
            continue
        if script.python == "only peers" and peers is None:
            print(f"\n{script.name} is left out: it needs JENSEN_PEERS")
            continue
        if script.name == "mnist_static.py" and peers is not None:
            options = ("--pythae", peers)
        python = sys.executable if script.python == "own" or peers is None else peers
        if call(python, script.name, *options):
            failed.append(script.name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
