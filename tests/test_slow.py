"""What takes minutes: fits of real data that have to be good, and kills at random moments."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from jensen.data import known
from jensen.evaluation import active_units, evaluate, importance_pass, posterior_means
from jensen.runs import Run, fit
from jensen.seeding import seeded

pytestmark = pytest.mark.slow

MODELS = {
    "vae": ("vae", {"epochs": 80}),
    "convolutional": ("vae", {"network": "conv", "channels": "16,32", "epochs": 40}),
    # Without warm-up this network collapses on digits: its latents start with little to say, and stay silent.
    "residual": ("vae", {"network": "residual", "channels": "16,32", "epochs": 40, "kl_warm_up": 10}),
    "mixture prior": ("vae", {"prior": "mixture", "epochs": 80}),
    "full posterior": ("vae", {"posterior": "full-normal", "epochs": 80}),
    "categorical": ("vae", {"likelihood": "categorical", "epochs": 60}),
    "iwae": ("iwae", {"epochs": 60}),
}


def independent_cells() -> tuple[float, float]:
    """Test NLL in nats, and its standard error, of cells with a smoothed histogram each, the latents left out."""
    train, test = known("digits", "train").x.reshape(-1, 64), known("digits", "test").x.reshape(-1, 64)
    nll = np.zeros(len(test))
    for cell in range(64):
        # Digits have 17 levels; they alone share the mass, which makes the rival stronger than it could know.
        levels = np.unique(train)
        counts = np.array([(train[:, cell] == level).sum() + 1.0 for level in levels])
        mass = dict(zip(levels, counts / counts.sum(), strict=True))
        nll -= np.log([mass[value] for value in test[:, cell]])
    return float(nll.mean()), float(nll.std() / len(nll) ** 0.5)


@pytest.mark.parametrize("name", MODELS)
def test_the_encoder_pays(name: str) -> None:
    """Draws of the posterior find more of each datum's evidence than as many draws of the prior."""
    recipe, options = MODELS[name]
    run = fit(known("digits"), recipe, options, valid=known("digits", "valid"), device="cpu")
    x = run.prepare(known("digits", "test"))
    result = importance_pass(run.model, x, 200)
    with seeded(0), torch.inference_mode():
        z = run.model.prior().sample(torch.Size((200, len(x))))
        by_prior = run.model.decode(z).log_prob(x).double().logsumexp(0) - np.log(200)
    found = result.evidence - by_prior
    assert found.mean() > 4 * found.std() / len(x) ** 0.5
    gap = result.evidence - result.elbo
    assert gap.mean() > 0
    assert active_units(posterior_means(run.model, x)) > 0


def test_a_categorical_model_beats_independent_cells() -> None:
    """With the same freedom in each cell, what the latents add shows."""
    run = fit(
        known("digits"),
        "vae",
        {"likelihood": "categorical", "epochs": 100},
        valid=known("digits", "valid"),
        device="cpu",
    )
    numbers = evaluate(run.model, run.prepare(known("digits", "test")), 500)
    nll, error = independent_cells()
    assert isinstance(numbers["nll"], float)
    assert isinstance(numbers["nll_test_standard_error"], float)
    assert numbers["nll"] < nll - 4 * (error + numbers["nll_test_standard_error"])


FITTING = """
import sys, torch
from jensen.data import known
from jensen.runs import fitting, fit
fitting.SAVE_EVERY = 0.0
torch.set_num_threads(1)
fit(known("digits"), "vae", {"epochs": 30, "hidden": 32}, valid=known("digits", "valid"), device="cpu",
    folder=sys.argv[1], resume=True)
"""


def test_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """A fit that is killed again and again ends bit for bit like one that wasn't."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", FITTING, str(folder)], env=environment)

    assert start(tmp_path / "whole").wait(600) == 0
    generator, folder = np.random.default_rng(0), tmp_path / "killed"
    kills = 0
    for _ in range(6):
        process = start(folder)
        # Past the imports, into the epochs, some of them while a file is being written.
        while process.poll() is None and not (folder / "config.json").exists():
            time.sleep(0.05)
        time.sleep(float(generator.uniform(2.0, 8.0)))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        Run.load(folder)
    assert kills > 0
    assert start(folder).wait(600) == 0
    whole, killed = Run.load(tmp_path / "whole"), Run.load(folder)
    assert [record["epoch"] for record in killed.history] == list(range(1, 31))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, killed.model.state_dict()[name]), name
    assert [r["valid"] for r in whole.history] == [r["valid"] for r in killed.history]


STREAMED = """
import resource, sys
from pathlib import Path
import torch
from jensen.data import stored, write_blocks
from jensen.evaluation import evaluate, posterior_means
from jensen.runs import fit, prepared
from jensen.training import streams

torch.set_num_threads(1)
streams.BUFFER_BYTES = 2**22
data = stored(sys.argv[1])
run = fit(data, options={"epochs": 1, "latent_dim": 2, "hidden": 16}, valid=500 / len(data))
evaluate(run.model, prepared(run, data), 1)
means = (posterior_means(run.model, x).numpy() for x in prepared(run, data))
write_blocks(Path(sys.argv[1]).with_suffix(".means.npy"), means, len(data))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_stays_the_same_while_the_data_grow_tenfold(tmp_path: Path) -> None:
    peaks: list[float] = []
    for rows in (6_000, 60_000):
        folder = tmp_path / f"{rows}"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(6):
            np.save(folder / f"{number}.npy", rng.standard_normal((rows // 6, 784), np.float32))
        done = subprocess.run(
            [sys.executable, "-c", STREAMED, str(folder)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout))
    # The data grow by 169 MB; what is read of them at once stays at about 30.
    assert peaks[1] - peaks[0] < 20, peaks
