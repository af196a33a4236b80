"""Hidden Markov models with emissions of any family, by EM or variational Bayes."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jensen.errors import ShapeError, SupportError
from jensen.models.families import CategoricalSymbol, Dirichlet, Family, Weights, scored
from jensen.models.forward_backward import Smoothed, forward_backward, viterbi
from jensen.models.progress import Iteration, floor_note
from jensen.models.rows import Columns, Rows, columns, covariance
from jensen.models.sequences import Batch, Sequences
from jensen.models.starting import centres, nearest_centre


class HiddenMarkov(nn.Module):
    r"""A chain of states z_1 -> z_2 -> ... with an emission x_t given z_t, in float64.

    .. math::
        p(x) = \sum_z \pi_{z_1} \prod_{t>1} A_{z_{t-1} z_t} \prod_t p(x_t|\theta_{z_t})

    What is kept of the data are expected counts of first states and transitions, and the sums of the emissions'
    features for each state. With priors, densities are those of the posterior means of pi and A and of the emissions'
    predictive densities.

    Args:
        emissions: Family of the emissions.
        count: Number of states K.
        event_shape: Of a datum, (T,) or (T, D): T is the length of new sequences.
        concentration: Of the Dirichlet priors of pi and the rows of A; None: maximum likelihood.

    Source: A tutorial on hidden Markov models and selected applications in speech recognition, 1989,
        https://doi.org/10.1109/5.18626.
    """

    def __init__(
        self, emissions: Family, count: int, event_shape: tuple[int, ...], concentration: float | None = None
    ) -> None:
        super().__init__()
        self.emissions = emissions
        self.count = count
        self.event_shape = event_shape
        self.chain = Weights() if concentration is None else Dirichlet(concentration)
        shapes = {
            "statistics": (count, emissions.feature_count),
            "starts": (count,),
            "transitions": (count, count),
        }
        for name, shape in shapes.items():
            empty = torch.zeros(shape, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(empty, requires_grad=False))

    statistics: Tensor
    starts: Tensor
    transitions: Tensor

    @property
    def start(self) -> Float[Tensor, " k"]:
        """E[pi], (K,)."""
        return self.chain.mean(self.starts.data)

    @property
    def transition(self) -> Float[Tensor, "k k"]:
        """E[A], from row to column, (K, K)."""
        return self.chain.mean(self.transitions.data)

    def log_prob(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, " n"]:
        """Log density of each sequence in nats, (n,), by the forward pass.

        Args:
            x: Sequences (n, T) or (n, T, D); NaN behind their ends and where a cell is missing.
            observed: True where a cell was observed.

        Raises:
            ShapeError: If there are other cells at a time than the model has.
            SupportError: If a symbol isn't one of the model's.
        """
        result = x.new_zeros(len(x), dtype=torch.float64)
        for batch, emission in self._emissions(x, observed):
            result[torch.from_numpy(batch.rows)] = self._smoothed(emission, batch).log_prob
        return result

    def states(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, "n t k"]:
        """p(z_t | x) at each time, (n, T, K); zeros behind a sequence's end."""
        result = torch.zeros(len(x), x.shape[1], self.count, dtype=torch.float64)
        for batch, emission in self._emissions(x, observed):
            states = self._smoothed(emission, batch).states.transpose(0, 1)
            result[torch.from_numpy(batch.rows), : states.shape[1]] = states
        return result

    def paths(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Int[Tensor, "n t"]:
        """The most probable path of states of each sequence, (n, T); -1 behind its end."""
        result = torch.full(x.shape[:2], -1, dtype=torch.long)
        for batch, emission in self._emissions(x, observed):
            path, _ = viterbi(self.start.log(), self.transition.log(), emission, batch.lengths)
            result[torch.from_numpy(batch.rows), : path.shape[1]] = path
        return result

    def impute(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, "n *event"]:
        """Sequences whose missing cells within them hold their conditional mean; behind their ends stays NaN.

        A missing symbol becomes the most probable one: there is no mean of symbols.
        """
        if observed is not None:
            x = torch.where(observed, x, torch.nan)
        wide = x.reshape(len(x), x.shape[1], -1).double()
        states = self.states(x)
        flat, weights = wide.reshape(-1, wide.shape[2]), states.reshape(-1, self.count)
        seen = ~flat.isnan()
        inside = weights.sum(1, keepdim=True) > 0.5
        expected = self.emissions.predictive(self.statistics.data).conditional_mean(
            torch.where(seen, flat, 0.0), seen
        )
        mean = self._emitted(weights, expected)
        filled = torch.where(seen, flat, torch.where(inside, mean, torch.nan))
        return filled.reshape(x.shape)

    def expected(self, shares: Float[Tensor, "n t k"]) -> Float[Tensor, "n t *cells"]:
        """What probabilities of states stand for: the expected emission at each time; of symbols the most probable.

        Args:
            shares: As of ``states``, (n, T, K); zeros behind a sequence's end, where the result is NaN.

        Raises:
            ShapeError: If there is another number of states.
        """
        if shares.ndim != 3 or shares.shape[2] != self.count:
            raise ShapeError(
                f"probabilities of states should have shape (n, T, {self.count}), got {tuple(shares.shape)}"
            )
        weights = shares.reshape(-1, self.count).to(self.statistics.dtype)
        means = self.emissions.predictive(self.statistics.data).mean
        emitted = self._emitted(weights, means.expand(len(weights), -1, -1))
        inside = weights.sum(1, keepdim=True) > 0.5
        return torch.where(inside, emitted, torch.nan).reshape(*shares.shape[:2], *self.event_shape[1:])

    def _emitted(self, weights: Tensor, means: Tensor) -> Tensor:
        """Emissions (m, D) of states with weights (m, K) and means (m, K, D)."""
        if isinstance(self.emissions, CategoricalSymbol):
            found = weights @ self.emissions.probability(self.statistics.data)
            return found.argmax(1, keepdim=True).to(weights.dtype)
        return (weights[..., None] * means).sum(1)

    def sample(self, n: int, context: Tensor | None = None) -> Float[Tensor, "n *event"]:
        """New sequences of length T, (n, *event)."""
        with torch.inference_mode():
            steps = self.event_shape[0]
            state = torch.multinomial(self.start.expand(n, -1), 1)[:, 0]
            path = [state]
            for _ in range(steps - 1):
                state = torch.multinomial(self.transition[state], 1)[:, 0]
                path.append(state)
            labels = torch.stack(path, 1).reshape(-1)
            drawn = self.emissions.predictive(self.statistics.data).sample(labels)
            return drawn.reshape(n, *self.event_shape)

    def _smoothed(self, emission: Tensor, batch: Batch) -> Smoothed:
        return forward_backward(self.start.log(), self.transition.log(), emission, batch.lengths)

    def _emissions(self, x: Tensor, observed: Tensor | None) -> Iterator[tuple[Batch, Tensor]]:
        """Batches of sequences with the log densities of their emissions, (T, B, K)."""
        if len(x.shape) != len(self.event_shape) + 1 or x.shape[2:] != self.event_shape[1:]:
            raise ShapeError(
                f"sequences should have shape (n, T{', D' if len(self.event_shape) > 1 else ''}) like those of the "
                f"fit, (n, *{self.event_shape}), got {tuple(x.shape)}"
            )
        if observed is not None:
            x = torch.where(observed, x, torch.nan)
        if isinstance(self.emissions, CategoricalSymbol):
            largest = int(x.nan_to_num(-1.0).max())
            if largest >= self.emissions.symbols:
                known = f"0..{self.emissions.symbols - 1}"
                raise SupportError(
                    f"the sequences hold the symbol {largest}; the model was fitted on {known}. "
                    "Leave it out, or fit with symbols=..., which says how many there are"
                )
        predictive = self.emissions.predictive(self.statistics.data)
        for batch in Sequences(x.cpu().numpy()).batches(self.count):
            d = batch.x.shape[2]
            flat = batch.x.reshape(-1, d)
            seen = None if batch.observed is None else batch.observed.reshape(-1, d)
            value = predictive.log_prob(flat, seen).reshape(*batch.present.shape, -1)
            yield batch, torch.where(batch.present[..., None], value, 0.0)


def fit_hidden_markov(
    model: HiddenMarkov,
    sequences: Sequences,
    generator: torch.Generator,
    *,
    iterations: int = 200,
    tolerance: float = 1e-4,
    restarts: int = 1,
) -> Iterator[Iteration]:
    """Fits by EM, or by variational Bayes where there are priors; the bound never decreases.

    Args:
        model: What is fitted, in place.
        sequences: Data.
        generator: Of the start: clusters of the emissions by k-means++, or random ones of symbols.
        iterations: Passes over the data at most.
        tolerance: Stops where a pass adds less than this, in nats a sequence.
        restarts: Starts; all are run for a tenth of the iterations, the best of them to the end.

    Yields:
        A record for each pass: the bound on the log evidence in nats a sequence, with all constants; without priors
        the log-likelihood.

    Raises:
        DataError: If the data can't be used with the emissions.
    """
    rows = Rows(sequences.steps())
    spread = columns(rows)
    needed = model.emissions.needs_covariance
    model.emissions.prepare(spread, covariance(rows, spread) if needed else None)
    start = _labels(model, rows, spread, generator)
    best = (-torch.inf, None)
    if restarts > 1:
        for _ in range(restarts):
            begun = _begin(model, sequences, start())
            value = -torch.inf
            for _ in range(max(1, iterations // 10)):
                value, new = _pass(model, sequences, begun)
                begun = new
            if value > best[0]:
                best = (value, begun)
    state = _begin(model, sequences, start()) if best[1] is None else best[1]
    previous = -torch.inf
    for number in range(1, iterations + 1):
        value, new = _pass(model, sequences, state)
        done = value - previous < tolerance * len(sequences) and number > 1
        for name, kept in zip(("statistics", "starts", "transitions"), state, strict=True):
            getattr(model, name).data = kept.clone()
        last = done or number == iterations
        note = (
            floor_note(model.emissions.at_floor(model.statistics.data), "states' emissions") if last else ""
        )
        yield Iteration(number, value / len(sequences), done, note)
        if done:
            return
        previous, state = value, new


State = tuple[Tensor, Tensor, Tensor]
"""Sums of features, expected first states and transitions."""


def _pass(model: HiddenMarkov, sequences: Sequences, state: State) -> tuple[float, State]:
    """One pass over the data: the bound, and the new expected statistics."""
    statistics, starts, transitions = state
    coefficients = model.emissions.coefficients(statistics)
    log_start, log_transition = model.chain.expected_log(starts), model.chain.expected_log(transitions)
    total = model.emissions.negative_kl(statistics) + model.chain.negative_kl(starts)
    total = total + model.chain.negative_kl(transitions).sum()
    new = [torch.zeros_like(part) for part in state]
    for batch in sequences.batches(model.count):
        steps, size, d = batch.x.shape
        seen = None if batch.observed is None else batch.observed.reshape(-1, d)
        given = scored(model.emissions, coefficients, batch.x.reshape(-1, d), seen)
        emission = given.logits.T.reshape(steps, size, -1)
        if not bool(batch.present.all()):
            emission = torch.where(batch.present[..., None], emission, 0.0)
        smoothed = forward_backward(log_start, log_transition, emission, batch.lengths)
        total = total + smoothed.log_prob.sum()
        shares = smoothed.states
        new[1] += shares[0].sum(0)
        new[2] += smoothed.transitions
        if not bool(batch.present.all()):
            shares = shares * batch.present[..., None]
        new[0] += given.statistics(shares.reshape(-1, model.count).T)
    return float(total), (new[0], new[1], new[2])


Assign = Callable[[Tensor, Tensor | None], Tensor]
"""From observations (n, D) and the mask of what was observed to states (K, n)."""


def _labels(
    model: HiddenMarkov, rows: Rows, spread: Columns, generator: torch.Generator
) -> Callable[[], Assign]:
    """A source of random first assignments."""

    def draw() -> Assign:
        if isinstance(model.emissions, CategoricalSymbol):
            shape = (model.count, model.emissions.symbols)
            table = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
            table = table / table.sum(0)
            return lambda x, observed: table[:, x[:, 0].long()]
        found = centres(rows, spread, model.count, 1, generator)
        return lambda x, observed: nearest_centre(x, observed, spread, found)[0]

    return draw


def _begin(model: HiddenMarkov, sequences: Sequences, assign: Assign) -> State:
    """Statistics of the first assignment; each transition and first state counts once more than it was seen."""
    k = model.count
    statistics = torch.zeros(k, model.emissions.feature_count, dtype=torch.float64)
    starts = torch.ones(k, dtype=torch.float64)
    transitions = torch.ones(k, k, dtype=torch.float64)
    for batch in sequences.batches(k):
        steps, size, d = batch.x.shape
        flat = batch.x.reshape(-1, d)
        seen = None if batch.observed is None else batch.observed.reshape(-1, d)
        shares = assign(flat, seen) * batch.present.reshape(-1)
        statistics += shares @ model.emissions.features(flat, seen).T
        wide = shares.reshape(k, steps, size)
        starts += wide[:, 0].sum(1)
        transitions += wide[:, :-1].reshape(k, -1) @ wide[:, 1:].reshape(k, -1).T
    return statistics, starts, transitions
