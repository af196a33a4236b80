"""Likelihoods of intensities 0, ..., 255, and of other integers below a fixed number."""

from typing import ClassVar

from torch import Tensor, nn

from jensen.distributions import DiscretisedLogistic, IntegerCategorical
from jensen.likelihoods.likelihood import Likelihood, is_integer


class Logistic256(Likelihood):
    """A logistic distribution a cell whose mass is gathered on 0, ..., 255.

    Args:
        network: From the latents to (*batch, 2, *event_shape): location and log-scale, in units where the
            intensities 0 and 255 are -1 and 1.
        event_shape: Shape of one datum.
    """

    support: ClassVar[str] = "integers from 0 to 255"

    @staticmethod
    def output_count() -> int:
        """How many numbers a cell the network has to return."""
        return 2

    def cells(self, outputs: Tensor) -> DiscretisedLogistic:
        """One discretised logistic a cell."""
        loc, log_scale = self._each(outputs, 2)
        # A scale under a thousandth of a level can't be told from zero and would divide by it.
        scale = log_scale.clamp(-11.0, 11.0).exp()
        return DiscretisedLogistic(127.5 * (loc + 1), 127.5 * scale, 256, validate_args=False)

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is an integer from 0 to 255."""
        return is_integer(x) & (x <= 255)


class Categorical(Likelihood):
    """One of the integers 0, ..., K - 1 a cell, each with a probability of its own.

    Args:
        network: From the latents to (*batch, K, *event_shape) logits.
        event_shape: Shape of one datum.
        classes: Number of classes K.
    """

    support: ClassVar[str] = "integers from 0 to the number of classes less one"

    def __init__(self, network: nn.Module, event_shape: tuple[int, ...], classes: int = 256) -> None:
        super().__init__(network, event_shape)
        self.classes = classes

    @staticmethod
    def output_count(classes: int = 256) -> int:
        """How many numbers a cell the network has to return."""
        return classes

    def cells(self, outputs: Tensor) -> IntegerCategorical:
        """One categorical a cell."""
        logits = self._checked(outputs, self.classes).movedim(self._parameter_dim(), -1)
        return IntegerCategorical(logits=logits, validate_args=False)

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is an integer below K."""
        return is_integer(x) & (x < self.classes)
