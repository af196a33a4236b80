"""One model, 784-400-z40-400-784 with ReLU and Bernoulli cells, and its training step, in the words of each library."""

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jensen import data
from jensen.data import Dataset, Schema
from jensen.errors import JensenError
from jensen.models import LatentVariableModel
from jensen.recipes import RECIPES
from jensen.seeding import seeded
from jensen.training import ArrayBatches, Settings, Training

PIXELS, HIDDEN, LATENT = 784, 400, 40
LAYERS = ((PIXELS, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, PIXELS))
BATCH = 100
LEARNING_RATE = 1e-3
BARE_FEATURES: dict[str, Any] = {
    "gradient": "pathwise",
    "averaging": None,
    "clip_norm": None,
    "guard": False,
    "patience": None,
}
"""Options that leave jensen's loop with what the hand-written one does."""

Epoch = Callable[[], float]
"""Trains on all data once and returns the data a second."""


def images(n: int, split: str = "train") -> Dataset:
    """Images of static MNIST, drawn at random, or random ones if the data set can't be had."""
    try:
        found = data.known("mnist-static", split)
    except JensenError as error:
        print(f"random images instead of mnist-static: {error}")
        x = (np.random.default_rng(0).random((n, PIXELS)) < 0.13).astype(np.uint8)
        return Dataset(x, Schema((PIXELS,), "binary"), name="random")
    order = np.random.default_rng(0).permutation(len(found))
    return data.take(found, order[:n])


def have(package: str) -> bool:
    """Whether a peer is installed."""
    return find_spec(package) is not None


def encoder() -> nn.Sequential:
    return nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))


def decoder() -> nn.Sequential:
    return nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS))


def products(batch: int) -> tuple[Callable[[], None], int]:
    """All matrix products of a step, and their operations: forward, by weights, by inputs but the first layer's."""
    layers = [(torch.randn(batch, i), torch.randn(o, i), torch.randn(batch, o)) for i, o in LAYERS]

    def work() -> None:
        for number, (x, weight, gradient) in enumerate(layers):
            x @ weight.T
            gradient.T @ x
            if number > 0:
                gradient @ weight

    forward = [2 * batch * i * o for i, o in LAYERS]
    return work, 3 * sum(forward) - forward[0]


def bare(dataset: Dataset) -> Epoch:
    """A loop by hand: fused Adam, batches by index, cross entropy and closed-form KL, nothing else."""
    x = torch.as_tensor(dataset.x).float()
    encode, decode = encoder(), decoder()
    optimiser = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=LEARNING_RATE, fused=True)

    def epoch() -> float:
        start = time.perf_counter()
        for index in torch.randperm(len(x)).split(BATCH):
            batch = x[index]
            loc, log_scale = encode(batch).chunk(2, -1)
            scale = log_scale.exp()
            z = loc + scale * torch.randn_like(scale)
            loss = functional.binary_cross_entropy_with_logits(decode(z), batch, reduction="sum")
            loss = loss + (0.5 * (loc * loc + scale * scale - 1) - log_scale).sum()
            optimiser.zero_grad()
            (loss / len(batch)).backward()
            optimiser.step()
        return len(x) / (time.perf_counter() - start)

    return epoch


def assemble(dataset: Dataset, options: Mapping[str, Any]) -> tuple[LatentVariableModel, Any]:
    """The model in jensen, and its config."""
    recipe = RECIPES["vae"]
    config = recipe.config({"latent_dim": LATENT, "hidden": (HIDDEN,), "batch_size": BATCH, **options})
    config = recipe.resolve(config, dataset.schema, len(dataset))
    with seeded(0):
        return recipe.assemble(config, dataset.schema, torch.as_tensor(dataset.x).float()), config


def jensen(dataset: Dataset, options: Mapping[str, Any], epochs: int = 1000, device: str = "cpu") -> Epoch:
    """What jensen does in training as ``runs.fit`` sets it up, without validation; so many epochs at most."""
    options = {"learning_rate": LEARNING_RATE, **options, "epochs": epochs}
    model, config = assemble(dataset, options)
    training = Training(
        RECIPES["vae"].objective(model, config).to(device),
        ArrayBatches(torch.as_tensor(dataset.x).to(device), config.batch_size),
        Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
    )
    history = training.run()
    return lambda: next(history).rate


def pythae_model() -> Any:
    """Pythae's VAE with networks of the same shape."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU())
            self.loc = nn.Linear(HIDDEN, LATENT)
            self.log_variance = nn.Linear(HIDDEN, LATENT)

        def forward(self, x: Tensor) -> ModelOutput:
            h = self.layers(x)
            return ModelOutput(embedding=self.loc(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*decoder(), nn.Sigmoid())

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z))

    config = VAEConfig(input_dim=(PIXELS,), latent_dim=LATENT, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder())


def _same_parameters(model: LatentVariableModel, peer: Any) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Parameters of jensen's model and of Pythae's that mean the same, and what the latter are multiples by.

    Pythae's network gives log s^2 where jensen's gives log s.
    """
    first, _, last = model.posterior.get_submodule("network").layers
    layers = model.likelihood.get_submodule("network").layers
    for kind in ("weight", "bias"):
        ours = getattr(last, kind)
        yield getattr(first, kind), getattr(peer.encoder.layers[0], kind), 1.0
        yield ours[:LATENT], getattr(peer.encoder.loc, kind), 1.0
        yield ours[LATENT:], getattr(peer.encoder.log_variance, kind), 2.0
        for place in (0, 2):
            yield getattr(layers[place], kind), getattr(peer.decoder.layers[place], kind), 1.0


@torch.no_grad()
def as_pythae(model: LatentVariableModel) -> Any:
    """Pythae's model with the weights of jensen's."""
    peer = pythae_model()
    for ours, theirs, factor in _same_parameters(model, peer):
        theirs.copy_(factor * ours)
    return peer.eval()


@torch.no_grad()
def from_pythae(peer: Any, dataset: Dataset) -> LatentVariableModel:
    """Jensen's model of such data with the weights of Pythae's."""
    model, _ = assemble(dataset, {})
    for ours, theirs, factor in _same_parameters(model, peer):
        ours.copy_(theirs / factor)
    return model.eval()


def pythae(dataset: Dataset, valid: Dataset | None = None, device: str = "cpu") -> Epoch:
    """Pythae's trainer with its own data path; with validation data its evaluation counts as well."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    def wrapped(some: Dataset | None) -> Any:
        return None if some is None else BaseDataset(torch.as_tensor(some.x), torch.ones(len(some)))

    logging.getLogger("pythae").setLevel(logging.ERROR)
    logging.getLogger("pythae.trainers.base_trainer.base_trainer").setLevel(logging.ERROR)
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=LEARNING_RATE,
        no_cuda=device == "cpu",
    )
    trainer = BaseTrainer(pythae_model(), wrapped(dataset), wrapped(valid), config)
    with torch.random.fork_rng():
        trainer.prepare_training()
    done = 0

    def epoch() -> float:
        nonlocal done
        done += 1
        with contextlib.redirect_stderr(io.StringIO()):
            start = time.perf_counter()
            trainer.train_step(done)
            if valid is not None:
                trainer.eval_step(done)
            return len(dataset) / (time.perf_counter() - start)

    return epoch


class _PyroVAE(nn.Module):
    """The model and its guide in Pyro's words."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        self.decoder = decoder()

    def model(self, x: Tensor) -> None:
        import pyro
        from pyro import distributions

        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            zeros = x.new_zeros(len(x), LATENT)
            z = pyro.sample("z", distributions.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", distributions.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        import pyro
        from pyro import distributions

        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", distributions.Normal(loc, log_scale.exp()).to_event(1))


def pyro(dataset: Dataset, *, manual: bool = False, validation: bool = True) -> Epoch:
    """Pyro's SVI with its closed-form KL, on batches by index; or as its manual does it: sampled KL, a data loader."""
    from pyro import enable_validation
    from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
    from pyro.optim import Adam
    from torch.utils.data import DataLoader, TensorDataset

    x = torch.as_tensor(dataset.x).float()
    vae = _PyroVAE()
    bound = Trace_ELBO() if manual else TraceMeanField_ELBO()
    svi = SVI(vae.model, vae.guide, Adam({"lr": LEARNING_RATE}), bound)
    loader = DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True)

    def batches() -> Iterator[Tensor]:
        if manual:
            yield from (batch for (batch,) in loader)
        else:
            yield from (x[index] for index in torch.randperm(len(x)).split(BATCH))

    def epoch() -> float:
        enable_validation(validation)
        start = time.perf_counter()
        for batch in batches():
            svi.step(batch)
        rate = len(x) / (time.perf_counter() - start)
        enable_validation(True)
        return rate

    return epoch
