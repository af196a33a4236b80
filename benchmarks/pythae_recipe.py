"""NLL of Pythae's own VAE on static MNIST, trained by Pythae's own trainer as the script of its published figure says.

784-400-z40-400-784, Adam 1e-4 whose step is divided by 10^(1/5) after 200 and 350 epochs, batches of 100, 500 epochs,
the weights of the best validation loss kept. The same weights are then judged twice: by Pythae's ``get_nll`` with 200
importance samples a datum, as published, and by jensen's evaluation with 5,000. It stands beside the seeds of
``mnist_static.py``: what the published 89.78 nats are when they are measured here. Run it with the peers' Python;
``JENSEN_DATA`` has to name the folder with the data set, or it is fetched.
"""

import argparse
import contextlib
import io
import logging
import tempfile
import time
from typing import Any

import torch
from torch import Tensor

from common import keep
from contenders import BATCH, from_pythae, images, pythae_model
from jensen import evaluation
from jensen.data import Dataset

PUBLISHED = 89.78
MILESTONES = (200, 350)


def trained(
    train: Dataset, valid: Dataset, epochs: int, rate: float, seed: int
) -> tuple[Any, dict[str, float]]:
    """Pythae's model with the weights that its trainer keeps, and how the training went."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    def wrapped(some: Dataset) -> Any:
        return BaseDataset(torch.as_tensor(some.x).float(), torch.ones(len(some)))

    for name in ("pythae", "pythae.trainers.base_trainer.base_trainer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        num_epochs=epochs,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=rate,
        optimizer_cls="Adam",
        scheduler_cls="MultiStepLR",
        scheduler_params={"milestones": list(MILESTONES), "gamma": 10 ** (-1 / 5)},
        seed=seed,
        no_cuda=True,
    )
    torch.manual_seed(seed)
    trainer = BaseTrainer(pythae_model(), wrapped(train), wrapped(valid), config)
    trainer.prepare_training()
    best, best_epoch, state = float("inf"), 0, {}
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        with contextlib.redirect_stderr(io.StringIO()):
            loss = trainer.train_step(epoch)
            checked = trainer.eval_step(epoch)
        trainer.scheduler.step()
        if checked < best:
            best, best_epoch = checked, epoch
            state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        if epoch % 20 == 0:
            print(
                f"epoch {epoch}: {loss:.2f}, validation {checked:.2f}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    seconds = time.perf_counter() - start
    trainer.model.load_state_dict(state)
    figures = {"train_loss": loss, "best_valid_loss": best, "best_epoch": best_epoch, "fit_seconds": seconds}
    return trainer.model.eval(), figures


@torch.no_grad()
def published_estimate(peer: Any, x: Tensor) -> float:
    """NLL by ``get_nll`` with 200 samples, which returns the mean of log p."""
    with contextlib.redirect_stderr(io.StringIO()):
        return -float(peer.get_nll(x, n_samples=200, batch_size=100))


def main() -> None:
    """Reads the arguments, trains, evaluates, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train, valid, test = images(50_000), images(10_000, "valid"), images(arguments.images, "test")
    peer, figures = trained(train, valid, arguments.epochs, arguments.learning_rate, arguments.seed)
    x = torch.as_tensor(test.x).float()
    numbers = evaluation.evaluate(from_pythae(peer, test), x, arguments.samples)
    numbers.pop("kl_per_dimension")
    result = {
        "what": "Pythae's VAE on mnist-static by its trainer, 784-400-z40-400-784 ReLU; NLL in nats of test images",
        "published": PUBLISHED,
        "epochs": arguments.epochs,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
        **figures,
        "nll_by_get_nll_200": published_estimate(peer, x),
        "test": numbers,
    }
    path = keep("pythae_recipe", result)
    print(
        f"get_nll, 200 samples: {result['nll_by_get_nll_200']:.2f}; jensen, {arguments.samples} samples: "
        f"{numbers['nll']:.2f}; published {PUBLISHED}; written to {path}"
    )


if __name__ == "__main__":
    main()
