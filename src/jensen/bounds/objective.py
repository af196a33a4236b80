"""What training minimises: minus a bound, or a weighted ELBO, with the gradient estimated in one of several ways."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from jensen.bounds.elbo import elbo
from jensen.bounds.gradients import (
    Bound,
    GradientEstimator,
    doubly_reparameterised,
    pathwise,
    score_function,
)
from jensen.bounds.importance import iwae
from jensen.bounds.terms import HasTerms, Samples, Terms
from jensen.bounds.weighted import weighted_elbo
from jensen.errors import BoundError
from jensen.training import Batch, Progress


class Stage(NamedTuple):
    """What is maximised for a part of a fit.

    Attributes:
        bound: From terms to nats for each datum.
        estimator: How its gradient is estimated.
        samples: Draws for each datum.
    """

    bound: Bound = elbo
    estimator: GradientEstimator = pathwise
    samples: Samples = 1


class VariationalObjective(nn.Module):
    """The loss of a batch: minus the mean over its data of a bound.

    Args:
        model: What is fitted, a module with ``terms``.
        bound: From terms to nats for each datum.
        estimator: How its gradient is estimated.
        samples: Draws for each datum.
        then: What is maximised in the second stage of a fit; None: the same.
        beta: Weight of the KL; other than 1 it replaces the bound by the weighted ELBO.
        free_bits: Nats of each group that aren't punished; likewise.
        warm_up: Epochs over which the weight of the KL grows from 0 to beta; likewise while it lasts.

    Raises:
        BoundError: If one of the last three is negative; for free bits with the score-function gradient; for any
            weighing of the KL, or another bound than ``iwae``, with the doubly reparameterised one.
    """

    def __init__(
        self,
        model: nn.Module,
        bound: Bound = elbo,
        estimator: GradientEstimator = pathwise,
        samples: Samples = 1,
        then: Stage | None = None,
        *,
        beta: float = 1.0,
        free_bits: float = 0.0,
        warm_up: float = 0.0,
    ) -> None:
        super().__init__()
        if not (beta >= 0 and free_bits >= 0 and warm_up >= 0):
            raise BoundError(
                f"beta, free_bits and warm_up are numbers of at least 0; got beta={beta:g}, free_bits={free_bits:g}, "
                f"warm_up={warm_up:g}"
            )
        if free_bits > 0 and estimator is score_function:
            raise BoundError(
                "free bits weigh a datum's KL by the mean over its batch, so the score-function gradient, "
                "which credits a draw with its own datum's bound alone, is biased; use beta or warm_up"
            )
        first = Stage(bound, estimator, samples)
        if any(
            stage.estimator is doubly_reparameterised and stage.bound is not iwae
            for stage in (first, then)
            if stage
        ):
            raise BoundError(
                "the doubly reparameterised gradient is that of the IWAE bound; use bound=iwae, or the "
                "path-wise gradient"
            )
        if estimator is doubly_reparameterised and (beta != 1 or free_bits > 0 or warm_up > 0):
            raise BoundError(
                "beta, free_bits and warm_up replace the bound by a weighted ELBO, and the doubly "
                f"reparameterised gradient is that of the IWAE bound; got beta={beta:g}, "
                f"free_bits={free_bits:g}, warm_up={warm_up:g}. Leave them out, or use the path-wise gradient"
            )
        if then is not None and (beta != 1 or free_bits > 0):
            raise BoundError(
                "a weighted ELBO has no second stage that maximises a bound; got "
                f"beta={beta:g}, free_bits={free_bits:g}. Leave them out, or leave out then"
            )
        self.model = model
        self.stages = (first, first if then is None else then)
        self.beta = beta
        self.free_bits = free_bits
        self.warm_up = warm_up

    def steady(self, progress: Progress) -> bool:
        """Whether the loss is the same function of a batch at this step and all later ones of its stage."""
        return progress.stage > 0 or progress.epoch >= self.warm_up

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and what is worth recording of it, in nats per datum.

        Returns:
            The loss, whose value is that of a surrogate, and a record with the log-likelihood, KL, ELBO and
            bound of each datum, (batch,); nothing here waits for the device.
        """
        stage = self.stages[progress.stage]
        warmth = 1.0 if self.steady(progress) else progress.epoch / self.warm_up
        weighed = self.free_bits > 0 or warmth * self.beta != 1.0

        def weighted(terms: Terms) -> Tensor:
            return weighted_elbo(terms, warmth * self.beta, self.free_bits)

        bound = weighted if weighed else stage.bound
        surrogate, terms = stage.estimator(cast(HasTerms, self.model), batch, bound, stage.samples)
        with torch.no_grad():
            log_likelihood = terms.average(terms.log_likelihood.detach())
            parts = [terms.average(terms.divergence(group).detach()) for group in terms.log_prior]
            kl = parts[0] if len(parts) == 1 else sum(parts, torch.zeros_like(log_likelihood))
            record = {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}
            if stage.bound is not elbo:
                record["bound"] = stage.bound(terms).detach()
        return -surrogate.mean(), record
