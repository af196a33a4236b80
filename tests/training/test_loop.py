import copy
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jensen.errors import FitError
from jensen.training import ArrayBatches, Epoch, Progress, Training
from jensen.training import guard as guards
from jensen.training.guard import Guard
from training.examples import N, Regression, data, settings, training, weights

STEPS = 12
"""In an epoch of the example."""


def finish(fit: Training) -> list[Epoch]:
    return list(fit.run())


def noisy(**options: Any) -> Training:
    """A fit with all there is that a state must hold: random steps, skipped ones, an average, early stopping."""
    objective = Regression(noise=0.3, broken={2})

    def validate(stage: int) -> dict[str, Tensor]:
        return {"bound": -(objective.network(data())[:, 0] - data().sum(-1)).detach().square()}

    return training(objective, validate=validate, **({"patience": 3} | options))


class Scripted:
    """A validation that gives one value after another, and keeps the weights that it saw."""

    def __init__(self, values: list[float]) -> None:
        self.values: Iterator[float] = iter(values)
        self.objective: nn.Module | None = None
        self.saw: list[Tensor] = []
        self.modes: list[bool] = []
        self.stages: list[int] = []

    def __call__(self, stage: int) -> dict[str, Tensor]:
        assert self.objective is not None
        self.saw.append(weights(self.objective))
        self.modes.append(self.objective.training)
        self.stages.append(stage)
        return {"bound": torch.full((5,), next(self.values))}


def scripted(values: list[float], **options: Any) -> tuple[Training, Scripted]:
    validation = Scripted(values)
    fit = training(validate=validation, **options)
    validation.objective = fit.objective
    return fit, validation


def test_learns() -> None:
    fit = training(epochs=30)
    epochs = finish(fit)
    assert epochs[-1].train["loss"] < 0.05 * epochs[0].train["loss"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    def fit(seed: int, user: int) -> Tensor:
        one = training(Regression(noise=0.3), seed=seed)
        torch.manual_seed(user)
        for _ in one.run():
            torch.randn(3)
        return weights(one.objective)

    assert torch.equal(fit(0, user=1), fit(0, user=2))
    assert not torch.equal(fit(0, user=1), fit(1, user=1))


def test_the_seed_is_that_of_the_noise_too() -> None:
    results = []
    for seed in (0, 0, 1):
        fit = Training(Regression(noise=0.3), ArrayBatches(data(), 4, seed=0), settings(epochs=1), seed)
        finish(fit)
        results.append(weights(fit.objective))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_the_users_generator_is_left_alone() -> None:
    objective = Regression(noise=0.3)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    fit = training(objective, validate=lambda stage: {"bound": torch.randn(5)})
    assert torch.equal(torch.get_rng_state(), before)
    for _ in fit.run():
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("cut", [1, 3, 5])
@pytest.mark.parametrize("averaging", [0.9, None])
def test_going_on_from_a_state_is_as_if_nothing_had_happened(cut: int, averaging: float | None) -> None:
    through = noisy(averaging=averaging)
    history = []
    state: dict[str, Any] = {}
    for epoch in through.run():
        history.append(epoch)
        if epoch.number == cut:
            state = copy.deepcopy(through.state_dict())
    resumed = noisy(averaging=averaging)
    with torch.no_grad():
        for parameter in resumed.objective.parameters():
            parameter.fill_(5.0)
    resumed.load_state_dict(state)
    rest = finish(resumed)
    assert torch.equal(weights(resumed.objective), weights(through.objective))
    assert_same_epochs(rest, history[cut:])
    assert_equal_states(resumed.state_dict(), through.state_dict())


@pytest.mark.parametrize("cut", [1, STEPS, STEPS + 5, 6 * STEPS - 1])
@pytest.mark.parametrize("anew", [True, False])
def test_going_on_after_an_interrupt_is_as_if_nothing_had_happened(cut: int, anew: bool) -> None:
    through = noisy(patience=None)
    history = finish(through)
    fit = noisy(patience=None)

    def interrupt(n: int) -> None:
        if fit.step == cut:
            signal.raise_signal(signal.SIGINT)

    fit.on_step = interrupt
    assert finish(fit)[-1].status == "interrupted"
    if anew:
        state = copy.deepcopy(fit.state_dict())
        fit = noisy(patience=None)
        fit.load_state_dict(state)
    states: list[Any] = []
    rest = []
    for epoch in fit.run():
        rest.append(epoch)
        states.append(copy.deepcopy(fit.state_dict()))
    assert torch.equal(weights(fit.objective), weights(through.objective))
    assert_equal_states(states[-1], through.state_dict())
    assert_same_epochs(rest[-1:], history[-1:])
    if len(states) > 1:
        # A state that is kept on the way is as good.
        resumed = noisy(patience=None)
        resumed.load_state_dict(states[0])
        finish(resumed)
        assert torch.equal(weights(resumed.objective), weights(through.objective))


def test_going_on_reaches_the_same_early_stop() -> None:
    values = [0.0, 5.0, 5.0, *[1.0] * 20]
    through, _ = scripted(values, patience=4, epochs=20)
    state: dict[str, Any] = {}
    for epoch in through.run():
        if epoch.number == 4:
            state = copy.deepcopy(through.state_dict())
    resumed, _ = scripted(values[4:], patience=4, epochs=20)
    resumed.load_state_dict(state)
    assert finish(resumed)[-1].status == "stopped early"
    assert resumed.epoch == through.epoch < 20
    assert torch.equal(weights(resumed.objective), weights(through.objective))


def assert_same_epochs(some: list[Epoch], others: list[Epoch]) -> None:
    for one, other in zip(some, others, strict=True):
        for name in ("number", "step", "status", "learning_rate", "skipped", "train", "valid", "best"):
            assert getattr(one, name) == getattr(other, name), name


def leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            assert isinstance(key, str | int)
            yield from leaves(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def assert_equal_states(one: Any, other: Any) -> None:
    for a, b in zip(leaves(one), leaves(other), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


def test_the_state_is_made_of_tensors_numbers_and_text() -> None:
    fit = noisy(epochs=2)
    for state in (fit.state_dict(), (finish(fit), fit.state_dict())[1]):
        assert all(isinstance(leaf, Tensor | int | float | str | None) for leaf in leaves(state))


def test_steps_with_a_gradient_that_is_not_finite_are_left_out_and_counted() -> None:
    broken = {2, 3, 17}
    after: list[Tensor] = []
    fit = training(
        Regression(broken=broken),
        epochs=2,
        warm_up=0.0,
        on_step=lambda n: after.append(weights(fit.objective)),
    )
    before = weights(fit.objective)
    epochs = finish(fit)
    assert [epoch.skipped for epoch in epochs] == [2, 3]
    for step, now in enumerate(after):
        assert torch.equal(now, before) is (step in broken), step
        before = now
    assert fit.step == 2 * STEPS
    assert weights(fit.objective).isfinite().all()
    moments = [value for entry in fit.optimiser.state.values() for value in entry.values()]
    assert all(value.isfinite().all() for value in moments)
    assert {int(entry["step"]) for entry in fit.optimiser.state.values()} == {2 * STEPS - 3}


def test_without_the_guard_they_are_not_left_out() -> None:
    fit = training(Regression(broken={2}), epochs=1, guard=False, averaging=None)
    assert finish(fit)[-1].skipped == 0
    assert not weights(fit.objective).isfinite().any()


@pytest.mark.parametrize("clip_norm", [100.0, None])
def test_nothing_but_such_steps_ends_the_fit_with_the_best_weights(
    monkeypatch: pytest.MonkeyPatch, clip_norm: float | None
) -> None:
    monkeypatch.setattr(guards, "PERSISTENT", 4)
    objective = Regression(broken=range(2 * STEPS, 10_000))
    validation = Scripted([1.0, 0.5])
    validation.objective = objective
    seen: list[int] = []
    fit = training(objective, validate=validation, clip_norm=clip_norm, on_step=seen.append, epochs=50)
    epochs = []
    with pytest.raises(FitError, match=r"not finite for .* steps in a row.*lower learning_rate") as refusal:
        epochs += fit.run()
    assert "best weights so far are kept" in str(refusal.value)
    # The counter is looked at every fourth step, so it is found after four to seven, long before the epoch ends.
    assert 2 * STEPS + 4 <= len(seen) <= 2 * STEPS + 7
    assert torch.equal(weights(objective), validation.saw[0])
    assert not objective.training


def test_the_end_of_an_epoch_is_where_they_are_noticed_at_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of all steps are borne, here 60 of 600."""
    monkeypatch.setattr(guards, "PERSISTENT", 1000)
    fit = training(Regression(broken=range(10_000)), epochs=50)
    with pytest.raises(FitError, match="for 60 steps in a row"):
        finish(fit)
    assert fit.step == 60


def test_they_are_counted_across_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "PERSISTENT", 1000)
    fit = training(Regression(broken=range(1, 10_000)), epochs=50)
    fit.on_step = lambda n: signal.raise_signal(signal.SIGINT) if fit.step == 31 else None
    finish(fit)
    resumed = training(Regression(broken=range(1, 10_000)), epochs=50)
    resumed.load_state_dict(copy.deepcopy(fit.state_dict()))
    with pytest.raises(FitError, match="for 71 steps in a row"):
        finish(resumed)
    assert resumed.step == 72


def test_a_short_fit_bears_a_few_such_steps() -> None:
    finish(training(Regression(broken={10, 11}), epochs=1))
    with pytest.raises(FitError):
        finish(training(Regression(broken={9, 10, 11}), epochs=1))


def test_now_and_then_such_a_step_does_not_end_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "PERSISTENT", 7)
    broken = [step for step in range(6 * STEPS) if step % 7]
    assert finish(training(Regression(broken=broken)))[-1].skipped == len(broken)


@pytest.mark.parametrize("clip_norm", [2e6, 1e12, None])
@pytest.mark.parametrize("active", [True, False])
def test_clipping_is_that_of_torch(clip_norm: float | None, active: bool) -> None:
    """Adam doesn't see the length of gradients that are all clipped or none: here some are longer than 2e6."""
    torch.manual_seed(0)
    mine, theirs = nn.Linear(3, 4).double(), nn.Linear(3, 4).double()
    theirs.load_state_dict(mine.state_dict())
    optimisers = [torch.optim.AdamW(net.parameters(), lr=0.1, fused=True) for net in (mine, theirs)]
    guard = Guard(optimisers[0], list(mine.parameters()), clip_norm, active)
    norms = []
    for scale in (1.0, 0.01, 100.0, 0.1, 10.0):
        x = torch.randn(5, 3).double()
        for net in (mine, theirs):
            net.zero_grad()
            (1e6 * scale * net(x).sin().sum()).backward()
        norms.append(
            float(torch.nn.utils.get_total_norm([p.grad for p in mine.parameters() if p.grad is not None]))
        )
        guard.prepare()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        for optimiser in optimisers:
            optimiser.step()
    assert min(norms) < 1e6 < 4e6 < max(norms)
    # The kernel takes the divisor in single precision, 6e-8, whatever the weights are in; torch's own adds 1e-6 to
    # the norm that it divides by, which is 2e-12 of it. Five steps of .1.
    torch.testing.assert_close(weights(mine), weights(theirs), rtol=0, atol=5 * 0.1 * 6e-8 * 10)
    assert (guard.skipped, guard.in_a_row) == (0, 0)


def test_sets_are_clipped_one_by_one() -> None:
    torch.manual_seed(0)
    values = [nn.Parameter(torch.randn(3, 2, 2)), nn.Parameter(torch.randn(3))]
    gradients = [torch.randn(3, 2, 2), torch.randn(3)]
    for gradient in gradients:
        gradient[1] *= 100
    for value, gradient in zip(values, gradients, strict=True):
        value.grad = gradient.clone()
    norms = torch.cat(
        [gradient.flatten(1) if gradient.ndim > 1 else gradient[:, None] for gradient in gradients], 1
    )
    Guard(torch.optim.AdamW(values, fused=True), values, 10.0, True, sets=True).prepare()
    expected = 10.0 / norms[1].norm()
    assert expected < 0.2
    for value, gradient in zip(values, gradients, strict=True):
        assert torch.equal(value.grad[::2], gradient[::2])
        torch.testing.assert_close(value.grad[1], gradient[1] * expected)


def test_clipping_changes_the_fit() -> None:
    fits = [training(clip_norm=clip, averaging=None) for clip in (None, 1e-3)]
    for fit in fits:
        finish(fit)
    assert not torch.allclose(weights(fits[0].objective), weights(fits[1].objective), atol=1e-3)


def test_is_adam_with_the_step_sizes_of_the_settings() -> None:
    fit = training(averaging=None, clip_norm=None, guard=False, weight_decay=0.1)
    by_hand = Regression()
    optimiser = torch.optim.AdamW(by_hand.parameters(), lr=1.0, weight_decay=0.1, fused=True)
    step = 0
    for number in range(6):
        for batch in fit.batches.epoch(number):
            optimiser.param_groups[0]["lr"] = fit.settings.rate(step / (6 * STEPS))
            optimiser.zero_grad()
            by_hand(batch, Progress(step, 0.0, 0.0))[0].backward()
            optimiser.step()
            step += 1
    epochs = finish(fit)
    assert torch.equal(weights(fit.objective), weights(by_hand))
    assert [e.learning_rate for e in epochs] == [
        fit.settings.rate((STEPS * k - 1) / (6 * STEPS)) for k in range(1, 7)
    ]


def test_progress_and_records() -> None:
    objective = Regression()
    taken: list[int] = []
    epochs = finish(training(objective, epochs=3, on_step=taken.append))
    assert taken == [4] * (3 * STEPS)
    assert sum(taken) == 3 * N
    assert [progress.step for progress in objective.seen] == list(range(3 * STEPS))
    assert [progress.epoch for progress in objective.seen] == [k / STEPS for k in range(3 * STEPS)]
    assert [progress.fraction for progress in objective.seen] == [k / (3 * STEPS) for k in range(3 * STEPS)]
    assert [epoch.train["step"] for epoch in epochs] == [STEPS * k + (STEPS - 1) / 2 for k in range(3)]
    assert [(e.number, e.step, e.status) for e in epochs] == [
        (1, 12, "running"),
        (2, 24, "running"),
        (3, 36, "finished"),
    ]
    assert all(
        epoch.seconds > 0 and epoch.rate > 0 and epoch.valid is None and not epoch.best for epoch in epochs
    )


def test_a_last_batch_that_is_smaller_is_counted_as_it_is() -> None:
    taken: list[int] = []
    fit = training(on_step=taken.append)
    fit.batches.batch_size = 20
    finish(fit)
    assert taken[:3] == [20, 20, 8]


def test_validates_the_average_in_evaluation_mode() -> None:
    fit, validation = scripted([1.0] * 6)
    averages: list[Tensor] = []
    for _ in fit.run():
        assert fit.average is not None
        averages.append(torch.cat([value.flatten().clone() for value in fit.average.averages]))
    assert all(torch.equal(a, b) for a, b in zip(validation.saw[:-1], averages[:-1], strict=True))
    assert validation.modes == [False] * 6
    objective = fit.objective
    assert isinstance(objective, Regression)
    assert all(objective.modes)
    assert not objective.training


def test_validates_when_it_is_due_and_at_the_end() -> None:
    fit, _ = scripted([1.0] * 10, epochs=7, validate_every=3)
    assert [epoch.valid is not None for epoch in fit.run()] == [False, False, True, False, False, True, True]


def test_reports_mean_and_standard_error_of_the_validation() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 9.0])
    first = torch.tensor([0.0, 1.0, 2.0, 3.0])
    epoch = finish(training(validate=lambda stage: {"elbo": first, "bound": values}, epochs=1))[-1]
    assert epoch.valid == pytest.approx(
        {"elbo": 1.5, "bound": 4.0, "standard_error": float(values.std()) / 2}
    )


@pytest.mark.parametrize("averaging", [0.9, None])
def test_the_weights_of_the_best_validation_are_kept(averaging: float | None) -> None:
    fit, validation = scripted([1.0, 2.0, 3.0, 0.0, 0.0, 0.0], averaging=averaging)
    best = []
    for epoch in fit.run():
        best.append(epoch.best)
        if epoch.number >= 3:
            kept = fit.kept()
            assert torch.equal(
                torch.cat([kept[name].flatten() for name, _ in fit.objective.named_parameters()]),
                validation.saw[2],
            )
    assert best == [True, True, True, False, False, False]
    assert torch.equal(weights(fit.objective), validation.saw[2])


def test_the_second_stage_begins_at_the_best_weights_and_has_a_best_of_its_own() -> None:
    # The values of the two stages have nothing to do with each other.
    values = [5.0, 7.0, 1.0, 1.0, 1.0, -3.0, -2.0, -9.0]
    fit, validation = scripted(values, epochs=8, second_stage=0.4)
    epochs, begun = [], None
    for epoch in fit.run():
        epochs.append(epoch)
        if epoch.number == 5:
            begun = weights(fit.objective)
    assert validation.stages == [epoch.stage for epoch in epochs] == [0] * 5 + [1] * 3
    assert [epoch.best for epoch in epochs] == [True, True, *[False] * 3, True, True, False]
    assert begun is not None
    assert torch.equal(begun, validation.saw[1])
    assert torch.equal(weights(fit.objective), validation.saw[6])
    assert epochs[-1].status == "finished"


def test_a_first_stage_that_is_out_of_patience_makes_room_for_the_second() -> None:
    fit, validation = scripted([0.0] * 40, epochs=30, patience=3, second_stage=0.1, decay=True)
    epochs = finish(fit)
    assert validation.stages == [0] * 4 + [1] * 3
    assert (epochs[-1].number, epochs[-1].status) == (7, "finished")
    # The step size falls to zero over the epochs that there are, not over those that there might have been.
    assert epochs[3].learning_rate > 0.9 * epochs[0].learning_rate
    assert epochs[-1].learning_rate < 0.1 * epochs[0].learning_rate
    fit, validation = scripted([0.0] * 40, epochs=30, patience=3, second_stage=0.5)
    assert finish(fit)[-1].status == "stopped early"
    assert validation.stages == [0] * 4 + [1] * 4


@pytest.mark.parametrize("at", [5, 6])
def test_a_fit_goes_on_from_its_state_on_both_sides_of_the_turn(at: int) -> None:
    def fit() -> Training:
        return noisy(epochs=8, patience=None, second_stage=0.4)

    through, again = fit(), fit()
    for epoch in through.run():
        if epoch.number == at:
            state = copy.deepcopy(through.state_dict())
    again.load_state_dict(state)
    assert [epoch.stage for epoch in again.run()] == ([1] * (8 - at))
    assert torch.equal(weights(again.objective), weights(through.objective))


def test_without_validation_the_average_is_kept() -> None:
    after: list[Tensor] = []
    fit = training(on_step=lambda n: after.append(weights(fit.objective)))
    average = weights(fit.objective).double()
    finish(fit)
    for step, now in enumerate(after, 1):
        keep = min(0.9, (1 + step) / (10 + step))
        average = keep * average + (1 - keep) * now.double()
    torch.testing.assert_close(weights(fit.objective).double(), average, rtol=1e-5, atol=1e-6)
    assert not torch.equal(weights(fit.objective), after[-1])


def test_stops_early_with_the_best_weights() -> None:
    fit, validation = scripted([0.0, 5.0, 5.0, *[1.0] * 20], patience=4, epochs=20)
    epochs = finish(fit)
    # Smoothed: 0, 2.5, 3.75, 2.375, ...: the third is the best, and four more are waited for.
    assert len(epochs) == 7
    assert [epoch.status for epoch in epochs] == ["running"] * 6 + ["stopped early"]
    assert torch.equal(weights(fit.objective), validation.saw[2])
    assert fit.step == 7 * STEPS


def test_an_interrupt_ends_the_fit_after_the_step_in_progress() -> None:
    taken: list[int] = []

    def on_step(n: int) -> None:
        taken.append(n)
        if len(taken) == STEPS + 3:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    fit = training(on_step=on_step, averaging=None, validate=None)
    after_three: list[Tensor] = []
    epochs = finish(fit)
    after_three.append(weights(fit.objective))
    assert [epoch.status for epoch in epochs] == ["running", "interrupted"]
    assert len(taken) == fit.step == epochs[-1].step == STEPS + 3
    assert fit.epoch == epochs[-1].number == 1
    assert epochs[-1].valid is None
    assert epochs[-1].train["step"] == STEPS + 1
    assert signal.getsignal(signal.SIGINT) is handler
    assert weights(fit.objective).isfinite().all()
    assert not fit.objective.training


def test_an_interrupt_in_the_first_epoch_starts_no_second_one_and_keeps_the_weights() -> None:
    after: list[Tensor] = []

    def on_step(n: int) -> None:
        after.append(weights(fit.objective))
        if len(after) == 2:
            signal.raise_signal(signal.SIGINT)

    fit = training(on_step=on_step, averaging=None, warm_up=0.0)
    (epoch,) = finish(fit)
    assert epoch.status == "interrupted"
    assert len(after) == 2
    assert torch.equal(weights(fit.objective), after[-1])
    assert not torch.equal(after[0], after[1])


def test_an_interrupt_keeps_the_weights_of_the_best_validation() -> None:
    fit, validation = scripted([1.0, 0.0], epochs=5)
    taken: list[int] = []

    def on_step(n: int) -> None:
        taken.append(n)
        if len(taken) == 2 * STEPS + 1:
            signal.raise_signal(signal.SIGINT)

    fit.on_step = on_step
    assert finish(fit)[-1].status == "interrupted"
    assert torch.equal(weights(fit.objective), validation.saw[0])


def test_a_fit_that_is_done_yields_nothing_more() -> None:
    fit = training(epochs=2)
    finish(fit)
    before = weights(fit.objective)
    assert finish(fit) == []
    assert torch.equal(weights(fit.objective), before)


def test_a_fit_none_of_whose_steps_counted_is_an_error_however_it_ends() -> None:
    objective = Regression(broken=range(10_000))
    fit = training(
        objective, validate=lambda stage: {"bound": torch.full((5,), torch.nan)}, patience=1, epochs=200
    )
    # Patience runs out after two epochs of 12 steps, long before a hundred steps in a row.
    with pytest.raises(FitError, match="for 24 steps in a row"):
        list(fit.run())
