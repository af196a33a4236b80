"""Fits killed at random moments and gone on with: are they, bit for bit, what an uninterrupted fit gives?

Every fit runs in processes forked from this one, is killed by SIGKILL, and is then resumed in others. It saves what
resuming needs after each step, or with several processes after every few, so that many kills come in the middle of
a write. Of several processes one or all are killed; those that are left have to notice it and end by themselves.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import keep, kept
from jensen.data import Dataset, Stored, stored
from jensen.errors import FitError, RunError
from jensen.runs import Run, fit, keeping
from jensen.training import loop, streams

OPTIONS = {"epochs": 12, "latent_dim": 3, "hidden": 16, "batch_size": 20, "averaging": 0.99}
PATIENCE = 20.0
"""Seconds after which a process that should end is sent SIGTERM, as torchrun does when another one has died."""


def write_shards(folder: Path) -> None:
    """The data, in memory and on disk the same ones."""
    folder.mkdir()
    x = (np.random.default_rng(0).random((200, 12)) < 0.3).astype(np.uint8)
    for number, part in enumerate(np.split(x, (70, 130))):
        np.save(folder / f"{number}.npy", part)


def dataset(root: Path, *, streamed: bool) -> Dataset | Stored:
    data = stored(root / "shards", block_rows=8)
    return data if streamed else data.load()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def forked(folder: Path, processes: int, *, streamed: bool) -> list[int]:
    """Starts a fit in processes of its own, or goes on with it; returns their numbers."""
    port = free_port()
    return [_fork(folder, rank, processes, port, streamed) for rank in range(processes)]


def _fork(folder: Path, rank: int, processes: int, port: int, streamed: bool) -> int:
    process = os.fork()
    if process == 0:
        status = 1
        try:
            if processes > 1:
                # What torchrun would say.
                place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "MASTER_PORT": port}
                sizes = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
                os.environ |= {name: str(value) for name, value in (place | sizes).items()}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "kills"}
            data = dataset(folder.parent, streamed=streamed)
            fit(data, options=OPTIONS, valid=0.2, device="cpu", folder=folder, resume=True)
            if processes > 1:
                torch.distributed.destroy_process_group()
            status = 0
        except FitError:
            # Another process is gone.
            status = 2
        finally:
            os._exit(status)
    return process


def ended(process: int, patience: float = 10 * PATIENCE) -> int:
    """How a process ended: its exit status, less than zero by a signal; one that doesn't end is made to."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def outcome(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """Weights and history but for times."""
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in record.items() if k not in ("seconds", "rate")} for record in history]
    return (folder / "weights.safetensors").read_bytes(), timeless


def trial(
    folder: Path, seconds: float, victims: tuple[int, ...], processes: int, streamed: bool, reference: Any
) -> dict[str, Any]:
    """One fit, of which some processes are killed after so many seconds, gone on with."""
    group = forked(folder, processes, streamed=streamed)
    time.sleep(seconds)
    for rank in victims:
        os.kill(group[rank], signal.SIGKILL)
    ends = [ended(process, PATIENCE) for process in group]
    begun = (folder / "config.json").exists()
    readable = True
    if begun:
        try:
            Run.load(folder)
        except RunError as error:
            print(error)
            readable = False
    resumed = all(ended(process) == 0 for process in forked(folder, processes, streamed=streamed))
    return {
        "seconds": seconds,
        "victims": victims,
        "killed": any(ends[rank] == -signal.SIGKILL for rank in victims),
        "survivors": [ends[rank] for rank in range(processes) if rank not in victims],
        "begun": begun,
        "readable": readable,
        "equal": resumed and outcome(folder) == reference,
    }


def main() -> None:
    """Reads the arguments, kills, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--stream", action="store_true", help="train from shards on disk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--print-only", action="store_true", help="keep no result")
    arguments = parser.parse_args()
    processes = arguments.processes
    torch.set_num_threads(1)
    keeping.SAVE_EVERY = keeping.SAVE_WITHIN = 0.0
    # Several buffers in an epoch.
    streams.BUFFER_BYTES = 600
    if processes > 1:
        # Several processes save where they have added up what they recorded.
        loop.AT_ONCE = 3
        import lightning_fabric

        assert lightning_fabric is not None
    # The forked processes needn't import what torch's optimisers import when the first one is made.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)
    generator = np.random.default_rng(arguments.seed)
    sets = [(0,)] if processes == 1 else [*((rank,) for rank in range(processes)), tuple(range(processes))]
    root = Path(tempfile.mkdtemp())
    write_shards(root / "shards")
    start = time.perf_counter()
    if any(ended(process) != 0 for process in forked(root / "whole", processes, streamed=arguments.stream)):
        raise SystemExit("the uninterrupted fit failed")
    whole = time.perf_counter() - start
    reference = outcome(root / "whole")
    trials: list[dict[str, Any]] = []
    while sum(one["killed"] for one in trials) < arguments.kills:
        folder, victims = root / str(len(trials)), sets[len(trials) % len(sets)]
        one = trial(
            folder, float(generator.uniform(0, whole)), victims, processes, arguments.stream, reference
        )
        if not (one["equal"] and one["readable"]):
            print(f"kept in {folder}: {one}")
        trials.append(one)
    hit = [one for one in trials if one["killed"]]
    ends = [end for one in hit for end in one["survivors"]]
    result = {
        "kills": len(hit),
        "bit_equal": sum(one["equal"] for one in hit),
        "unreadable": sum(not one["readable"] for one in hit),
        "before_the_run_began": sum(not one["begun"] for one in hit),
        "seconds_of_a_whole_fit": whole,
    }
    if processes > 1:
        result["how_the_others_ended"] = {str(end): ends.count(end) for end in sorted(set(ends))}
    print(json.dumps(result))
    if not arguments.print_only:
        content = {key: value for key, value in kept("kills").items() if key != "machine"}
        content |= {"what": "fits killed by SIGKILL at random moments and resumed"}
        name = f"by_{processes}_processes" + "_from_disk" * arguments.stream
        content |= result if name == "by_1_processes" else {name: result}
        keep("kills", content)
    if all(one["equal"] and one["readable"] for one in trials):
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
