"""What can only be seen from outside: imports, signals, exit codes of the process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from jensen.runs import Run

HEAVY = ("torch", "numpy", "sklearn", "lightning_fabric", "matplotlib", "rich.console")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['jensen', 'fit', '--help']\n"
        "from jensen.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = run_python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "--model" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    done = run_python("-m", "jensen", "evaluate", "run")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "jensen: Missing argument 'DATA'.\n"


def test_control_c_leaves_a_run(tmp_path: Path) -> None:
    data, out = tmp_path / "x.npy", tmp_path / "run"
    np.save(data, np.random.default_rng(0).normal(size=(3000, 20)))
    options = ("--set", "hidden=300,300", "--set", "batch_size=20", "--epochs", "1000", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "jensen", "fit", data, "--model", "vae", "--out", out, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    try:
        deadline = time.monotonic() + 100
        while not (out / "metrics.jsonl").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Now the second epoch has begun.
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, complaints
    assert '"status": "interrupted"' in printed
    assert "Traceback" not in complaints
    run = Run.load(out)
    assert run.history[-1]["status"] == "interrupted"
    assert run.history[0]["status"] == "running"
    assert (out / "resume.safetensors").exists()
