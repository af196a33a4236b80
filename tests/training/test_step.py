from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from jensen.bounds import VariationalObjective
from jensen.flushing import flushed
from jensen.training import ArrayBatches, Batch, Progress, Settings, Training
from jensen.training.repeated import WARM, CapturedStep, RecordedStep
from jensen.training.step import Step
from jensen.training.threads import SMALL, chosen, operations, threads
from training.examples import Regression, data, settings, training, weights

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@dataclass
class Again:
    """Stands for a CUDA graph: as one does, it runs nothing when it is captured, and all of it at each replay."""

    work: Callable[[], None]

    def replay(self) -> None:
        self.work()


class Steady(Regression):
    """The regression, which does the same at every step from some epoch on."""

    since: float = 0.0

    def steady(self, progress: Progress) -> bool:
        return progress.epoch >= self.since


def captured(fit: Training, capture: Callable[[Callable[[], None]], Again] = Again) -> CapturedStep:
    """Has a fit captured on a machine without a GPU."""
    made = fit._step()
    assert isinstance(made, RecordedStep)
    result = CapturedStep(made.step, made.steady, capture)
    fit._step = lambda: result  # pyright: ignore[reportAttributeAccessIssue]
    return result


@pytest.mark.parametrize("parts", [2, 3, 4, 7])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts: int) -> None:
    """With dropout and noise: each part takes its rows of what the whole batch draws."""
    fits = [training(Regression(noise=0.3), epochs=3, accumulate=number) for number in (1, parts)]
    histories = [list(fit.run()) for fit in fits]
    torch.testing.assert_close(weights(fits[1].objective), weights(fits[0].objective), rtol=1e-4, atol=1e-6)
    for one, other in zip(*histories, strict=True):
        assert one.step == other.step
        if parts != 3:
            # A record of one number for all of a part counts once, and three parts of four data aren't alike.
            assert other.train["loss"] == pytest.approx(one.train["loss"], rel=1e-4)
    assert not torch.equal(weights(fits[1].objective), weights(fits[0].objective))


def test_without_a_common_draw_they_would_not_be() -> None:
    """The tolerance of the test above is far below what other noise does."""
    fits = [training(Regression(noise=0.3), seed=seed, epochs=3) for seed in (0, 1)]
    for fit in fits:
        list(fit.run())
    assert not torch.allclose(weights(fits[1].objective), weights(fits[0].objective), rtol=1e-4, atol=1e-3)


def test_parts_of_a_last_batch_of_another_size_count_by_their_data() -> None:
    fits = []
    for accumulate in (1, 3):
        batches = ArrayBatches(data()[:26], 8)
        fit = Training(Regression(), batches, settings(epochs=4, accumulate=accumulate))
        list(fit.run())
        fits.append(weights(fit.objective))
    torch.testing.assert_close(fits[0], fits[1], rtol=1e-4, atol=1e-6)


def test_a_replayed_step_is_the_step() -> None:
    plain, replayed = (training(Steady(noise=0.3), epochs=3) for _ in range(2))
    step = captured(replayed)
    ends = [list(fit.run()) for fit in (plain, replayed)]
    assert step.replays == 3 * 12 - WARM
    assert torch.equal(weights(replayed.objective), weights(plain.objective))
    assert [epoch.train["loss"] for epoch in ends[0]] == [epoch.train["loss"] for epoch in ends[1]]


def test_batches_of_another_size_are_not_replayed() -> None:
    results = []
    for capture in (False, True):
        fit = Training(Steady(noise=0.3), ArrayBatches(data()[:26], 8), settings(epochs=4))
        step = captured(fit) if capture else None
        list(fit.run())
        results.append(weights(fit.objective))
        if step is not None:
            # Three full batches an epoch, the first of them to warm up.
            assert step.replays == 4 * 3 - WARM
    assert torch.equal(*results)


def test_nothing_is_captured_while_the_objective_changes() -> None:
    objective = Steady()
    objective.since = 2.0
    fit = training(objective, epochs=3)
    step = captured(fit)
    list(fit.run())
    assert step.replays == 12 - WARM


def test_guarded_steps_are_left_out_when_replayed_too() -> None:
    fit = training(Steady(broken={20}), epochs=2)
    step = captured(fit)
    epochs = list(fit.run())
    # A captured step is that of its own progress: the one that breaks is not among those replayed.
    assert step.replays > 0
    assert epochs[-1].skipped == 0


def test_a_step_that_cant_be_captured_is_done_operation_by_operation_with_a_warning() -> None:
    def refuse(work: Callable[[], None]) -> Again:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    plain, refused = (training(Steady(noise=0.3), epochs=2) for _ in range(2))
    step = captured(refused, refuse)
    list(plain.run())
    with pytest.warns(RuntimeWarning, match=r"can't be captured .*not permitted when stream is capturing\)"):
        list(refused.run())
    assert step.failed
    assert step.replays == 0
    assert torch.equal(weights(refused.objective), weights(plain.objective))


def test_the_step_size_may_lie_on_the_device() -> None:
    fits = [training(epochs=2) for _ in range(2)]
    group = fits[1].optimiser.param_groups[0]
    group["lr"] = torch.tensor(float(group["lr"]))
    place = group["lr"]
    for fit in fits:
        list(fit.run())
    assert group["lr"] is place
    torch.testing.assert_close(weights(fits[1].objective), weights(fits[0].objective), rtol=1e-5, atol=1e-6)


def recording(fit: Training, after: int = 5) -> RecordedStep:
    """The step of a fit, which is recorded after so many."""
    step = fit._step()
    assert isinstance(step, RecordedStep)
    step.after = after
    fit._step = lambda: step  # pyright: ignore[reportAttributeAccessIssue]
    return step


def test_on_the_processor_a_steady_step_is_recorded_unless_it_is_shared_or_told_not_to() -> None:
    assert isinstance(training(Steady())._step(), RecordedStep)
    assert isinstance(training(Regression())._step(), Step)
    for more in ({"capture": "off"}, {"accumulate": 2}):
        assert isinstance(training(Steady(), **more)._step(), Step)


def test_a_recorded_fit_is_the_same_to_the_last_bit() -> None:
    fits = [Training(Steady(noise=0.3), ArrayBatches(data()[:26], 8), settings(epochs=5)) for _ in range(2)]
    step = recording(fits[0])
    histories = [list(fit.run()) for fit in fits]
    # Three full batches an epoch, and a short one that isn't repeated.
    assert step.replays == 5 * 3 - 5
    assert torch.equal(weights(fits[0].objective), weights(fits[1].objective))
    assert [epoch.train["loss"] for epoch in histories[0]] == [epoch.train["loss"] for epoch in histories[1]]


def test_a_fit_goes_on_from_recorded_steps() -> None:
    straight, first, second = (training(Steady(noise=0.3), epochs=4) for _ in range(3))
    for fit in (straight, first, second):
        recording(fit)
    list(straight.run())
    run = first.run()
    for _ in range(2):
        next(run)
    state = first.state_dict()
    second.load_state_dict(state)
    list(second.run())
    assert torch.equal(weights(second.objective), weights(straight.objective))


class Sparing(Steady):
    """Has a parameter that the loss doesn't depend on, and one that isn't trained."""

    def __init__(self) -> None:
        super().__init__(noise=0.3)
        self.idle = torch.nn.Parameter(torch.ones(2))
        self.network[0].bias.requires_grad_(False)


def test_parameters_without_a_gradient_stay_without() -> None:
    fits = [training(Sparing(), epochs=2) for _ in range(2)]
    step = recording(fits[0])
    for fit in fits:
        list(fit.run())
    assert step.replays > 0
    assert torch.equal(weights(fits[0].objective), weights(fits[1].objective))
    assert step.moved["idle"].grad is None


class Counting(Steady):
    """Counts its steps in a buffer, and its loss depends on it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        self.count = self.count + 1
        loss, record = super().forward(batch, progress)
        return loss * self.count, record


class Looking(Steady):
    """Decides by a value."""

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        loss, record = super().forward(batch, progress)
        return (2 * loss if batch.x.mean() > 0 else loss), record


class Remembering(Steady):
    """Writes into a tensor of its own that is no buffer."""

    last = torch.zeros(())

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        loss, record = super().forward(batch, progress)
        result = loss + self.last
        self.last.copy_(loss.detach())
        return result, record


class Hooked(Steady):
    """Its parameters have hooks that change their gradients."""

    def __init__(self) -> None:
        super().__init__(noise=0.3)
        self.network[0].weight.register_hook(lambda gradient: 0.5 * gradient)


class Hidden(Steady):
    """Reaches a parameter by a way of its own."""

    def __init__(self) -> None:
        super().__init__(noise=0.3)
        self.ways = [self.network[0].weight]

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        loss, record = super().forward(batch, progress)
        return loss + self.ways[0].square().sum(), record


@pytest.mark.parametrize("objective", [Counting, Looking, Remembering, Hooked, Hidden])
def test_what_would_not_be_the_same_is_not_recorded(objective: type[Steady]) -> None:
    results = []
    for capture in ("auto", "off"):
        torch.nn.init.zeros_(Remembering.last)
        fit = training(objective(), epochs=2, capture=capture)
        step = recording(fit) if capture == "auto" else None
        list(fit.run())
        results.append(weights(fit.objective))
        if step is not None:
            assert step.failed
            assert step.replays == 0
    assert torch.equal(*results)


def test_objectives_say_when_they_are_steady() -> None:
    objective = VariationalObjective(torch.nn.Linear(1, 1), warm_up=3.0)
    assert [objective.steady(Progress(0, epoch, 0.0)) for epoch in (0.0, 2.9, 3.0, 7.0)] == [
        False,
        False,
        True,
        True,
    ]


def test_small_models_get_one_thread_unless_told_otherwise() -> None:
    assert chosen(None, operations(1000, 100)) == 1
    assert chosen(None, operations(int(SMALL), 100)) == torch.get_num_threads()
    assert chosen(2, operations(1000, 100)) == 2
    seen: list[int] = []
    fit = training(epochs=1, threads=2, on_step=lambda data: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    list(fit.run())
    assert set(seen) == {2}
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), threads(2):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("before", [False, True])
def test_numbers_below_normal_ones_are_zero_in_training_alone(before: bool) -> None:
    def product() -> float:
        return float(torch.tensor(1e-30) * 1e-10)

    class Tiny(Regression):
        """Keeps a product that float32 has no normal number for."""

        def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
            seen.append(product())
            return super().forward(batch, progress)

    seen: list[float] = []
    fit = training(Tiny(), epochs=2, validate=lambda stage: {"bound": torch.full((5,), product())})
    try:
        torch.set_flush_denormal(before)
        epochs = list(fit.run())
        assert (product() == 0.0) is before
    finally:
        torch.set_flush_denormal(False)
    assert set(seen) == {0.0}
    assert epochs[-1].valid is not None
    assert epochs[-1].valid["bound"] == 0.0
    assert product() > 0.0
    # What Adam remembers of a gradient that was there once falls to zero, not to where it costs time.
    parameter = torch.nn.Parameter(torch.zeros(1))
    with flushed():
        optimiser = torch.optim.AdamW([parameter], fused=True)
        for step in range(1500):
            parameter.grad = torch.full((1,), float(step == 0))
            optimiser.step()
    assert float(optimiser.state[parameter]["exp_avg"]) == 0.0


@cuda
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_on_a_gpu_a_captured_fit_is_the_eager_one(noise: float) -> None:
    results: list[Tensor] = []
    for capture in ("auto", "off"):
        with torch.random.fork_rng():
            objective = Steady(noise=noise)
        batches = ArrayBatches(data().cuda(), 8)
        fit = Training(objective, batches, settings(epochs=4, capture=capture))
        assert fit.captures is (capture == "auto")
        epochs = list(fit.run())
        assert epochs[-1].train["loss"] < epochs[0].train["loss"]
        results.append(weights(fit.objective).cpu())
    if noise == 0:
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@cuda
def test_on_a_gpu_random_numbers_are_fresh_at_each_replay() -> None:
    class Noise(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def steady(self, progress: Progress) -> bool:
            return True

        def forward(self, batch: object, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
            noise = torch.randn((), device=self.weight.device)
            seen.append(noise)
            return self.weight.square(), {"noise": noise}

    seen: list[Tensor] = []
    fit = Training(Noise(), ArrayBatches(data().cuda(), 8), Settings(epochs=3, averaging=None))
    step = fit._step()
    assert isinstance(step, CapturedStep)
    batch = next(fit.batches.epoch(0))
    values = [float(step(batch, Progress(k, 0.0, 0.0))["noise"]) for k in range(10)]
    assert step.replays > 0
    assert len(set(values)) == 10


@cuda
def test_on_a_gpu_a_captured_fit_goes_on_from_its_state() -> None:
    def fit() -> Training:
        with torch.random.fork_rng():
            objective = Steady(noise=0.3)
        return Training(objective, ArrayBatches(data().cuda(), 8), settings(epochs=4))

    through = fit()
    state = {}
    for epoch in through.run():
        if epoch.number == 2:
            state = through.state_dict()
            state = {**state, "objective": {k: v.clone() for k, v in state["objective"].items()}}
    resumed = fit()
    resumed.load_state_dict(state)
    assert all(
        isinstance(group["lr"], Tensor) and group["lr"].is_cuda for group in resumed.optimiser.param_groups
    )
    list(resumed.run())
    assert weights(resumed.objective).isfinite().all()
