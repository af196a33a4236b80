"""Runs the benchmarks that take minutes, and with --long all of them.

The environment variable JENSEN_PEERS names the Python of the peers' environment (benchmarks/README.md); without it
jensen and the loop by hand are measured alone.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


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
    python = sys.executable if peers is None else peers
    memory = ["--memory-long"] if arguments.long else []
    states = [
        call(python, "throughput.py"),
        call(python, "evaluation_speed.py", *memory),
        call(sys.executable, "gradients.py"),
        call(sys.executable, "processes.py"),
        call(sys.executable, "cost.py"),
        call(sys.executable, "streaming.py"),
        call(sys.executable, "factor_graphs.py"),
        call(sys.executable, "information.py"),
        call(python, "exact_models.py", *(["--full"] if arguments.long else [])),
        call(sys.executable, "exact_memory.py", *(["--full"] if arguments.long else [])),
        call(sys.executable, "known_data.py"),
        call(sys.executable, "gap.py"),
    ]
    if arguments.long:
        states.append(
            call(sys.executable, "mnist_static.py", *([] if peers is None else ["--pythae", peers]))
        )
        states.append(call(sys.executable, "iwae_table.py"))
    if any(states):
        sys.exit(1)


if __name__ == "__main__":
    main()
