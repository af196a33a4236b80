import multiprocessing
import os
import signal
import time
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import jensen as jn
from jensen.errors import ConfigError, FitError, ShapeError
from jensen.seeding import seeded
from jensen.weights import FunctionalNetwork, Problem
from jensen.weights import processes as rooms
from jensen.weights.ensemble import EnsembleOptions, Share, starts, train
from jensen.weights.likelihoods import likelihood
from jensen.weights.optimise import MemberBatches
from jensen.weights.priors import prior
from jensen.weights.processes import Report, spread

DTYPE = torch.float64
CPU = torch.device("cpu")


def chain() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1)).to(DTYPE)


def data(n: int = 30) -> tuple[Tensor, Tensor]:
    with seeded(1):
        return torch.randn(n, 3, dtype=DTYPE), torch.randn(n, dtype=DTYPE)


def whole(network: nn.Module, members: int, n: int = 30, **options: Any) -> Share:
    function = FunctionalNetwork(network)
    x, y = data(n)
    problem = Problem(function, x, y, likelihood("normal", 0.3), prior("normal", function.weights))
    with seeded(2):
        first = starts(function, members)
        rows = torch.randint(n, (members, n)) if options.get("bagging") else None
    parsed = EnsembleOptions(members=members, batch_size=7, epochs=5, **options)
    return Share(problem, parsed, first, rows, range(members))


@pytest.mark.parametrize(
    "options", [{}, {"bagging": True}, {"clip_norm": 0.1}, {"adversarial": 0.05}], ids=str
)
def test_members_are_what_they_are_in_any_company(options: dict[str, Any]) -> None:
    together = whole(chain(), 4, **options)
    expected, _ = train(together)
    for part in (range(1), range(1, 3), range(3, 4)):
        found, _ = train(replace(together, members=part))
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(
                value, expected[name][part.start : part.stop], rtol=1e-9, atol=1e-9, msg=name
            )


def test_masks_differ_from_share_to_share() -> None:
    network = nn.Sequential(nn.Linear(3, 20), nn.Dropout(0.5), nn.Linear(20, 1)).to(DTYPE)
    both = whole(network, 2, n=1)
    alike = replace(both, first={name: value[:1].expand_as(value) for name, value in both.first.items()})
    one, other = (train(replace(alike, members=part))[0] for part in (range(1), range(1, 2)))
    assert not torch.allclose(one["2.weight"], other["2.weight"])


def test_a_share_of_the_sets_gets_their_batches() -> None:
    x, y = data()
    every = list(MemberBatches(x, y, 8, seed=3, sets=5).epoch(2))
    some = list(MemberBatches(x, y, 8, seed=3, sets=5, share=range(1, 3)).epoch(2))
    for all_sets, two in zip(every, some, strict=True):
        assert torch.equal(all_sets.x[1:3], two.x)


def test_two_processes_train_what_one_does() -> None:
    x, y = data()
    options = {"method": "ensemble", "members": 3, "epochs": 8, "batch_size": 10, "bagging": True}
    one = jn.weights.fit(chain(), x, y, **options)
    told: list[tuple[int, int]] = []
    two = jn.weights.fit(chain(), x, y, processes=2, on_epoch=lambda *now: told.append(now), **options)
    assert one.members.keys() == two.members.keys()
    for name, value in one.members.items():
        torch.testing.assert_close(two.members[name], value, rtol=1e-9, atol=1e-9, msg=name)
    assert two.history["loss"] == pytest.approx(one.history["loss"], rel=1e-6)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (8, 8)
    assert not multiprocessing.active_children()


def dies(share: str, report: Report) -> None:
    report(1, 2)
    os._exit(3)


def lasts(share: str, report: Report) -> None:
    report(1, 2)
    time.sleep(60)


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(FitError, match=r"exit code 3.*__main__.*processes=1"):
        spread(dies, ["a"], CPU)
    assert not multiprocessing.active_children()


def test_ctrl_c_leaves_no_process() -> None:
    start = time.perf_counter()
    # A shell's background jobs ignore it from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            spread(lasts, ["a"], CPU, lambda done, planned: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not multiprocessing.active_children()
    assert time.perf_counter() - start < 50


def test_one_that_was_killed_names_the_signal() -> None:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.kill()
    assert "signal 9 (SIGKILL); if memory ran out" in str(rooms._dead(process))


def refuses(share: str, report: Report) -> None:
    raise ShapeError("wanted (3,)")


def fails(share: str, report: Report) -> None:
    raise ZeroDivisionError("by zero")


def warns(share: Tensor, report: Report) -> Tensor:
    warnings.warn("slower", RuntimeWarning, stacklevel=1)
    return 2 * share


def task(work: Any, share: Any) -> rooms._Task:
    return rooms._Task(work, rooms._packed(share, "cpu"), "cpu", torch.get_num_threads(), torch.float32)


def test_errors_keep_their_kind_and_say_where() -> None:
    answer = rooms._answer(task(refuses, "a"), print)
    assert isinstance(answer, rooms._Failed)
    error = rooms._error(answer)
    assert isinstance(error, ShapeError)
    assert str(error) == "wanted (3,)"
    assert "in refuses" in error.__notes__[0]
    answer = rooms._answer(task(fails, "a"), print)
    assert isinstance(answer, rooms._Failed)
    error = rooms._error(answer)
    assert type(error) is FitError
    assert "ZeroDivisionError: by zero" in str(error)


def test_warnings_come_along() -> None:
    answer = rooms._answer(task(warns, torch.ones(2)), print)
    assert isinstance(answer, rooms._Done)
    assert answer.warned == [(RuntimeWarning, "slower")]
    assert torch.equal(rooms._unpacked(answer.result), torch.full((2,), 2.0))


def test_a_network_that_no_other_process_can_get_is_refused() -> None:
    class Local(nn.Linear):
        pass

    x, y = data()
    with pytest.raises(ConfigError, match=r"Can.t pickle.*top level of a module.*processes=1"):
        jn.weights.fit(Local(3, 1, dtype=DTYPE), x, y, method="ensemble", processes=2, epochs=1)


def test_a_network_that_another_process_cannot_read_is_refused() -> None:
    unknown = replace(task(dies, "a"), share=rooms._packed(Gone(), "cpu").replace(b"Gone", b"Lost"))
    answer = rooms._answer(unknown, print)
    assert isinstance(answer, rooms._Failed)
    with pytest.raises(ConfigError, match=r"Lost.*module that can be imported"):
        raise rooms._error(answer)


class Gone:
    pass


def test_tensors_go_by_value() -> None:
    tied = nn.Parameter(torch.randn(2, 3), requires_grad=False)
    sent = {
        "empty": torch.empty(0, 3),
        "number": torch.tensor(2.5, dtype=DTYPE),
        "half": torch.randn(3).bfloat16(),
        "stretched": torch.ones(()).expand(1).clone(),
        "mask": torch.tensor([True, False]),
        "turned": torch.arange(6).reshape(2, 3).T,
        "hollow": nn.Parameter(torch.empty(4, device="meta"), requires_grad=False),
        "tied": [tied, tied],
    }
    found = rooms._unpacked(rooms._packed(sent, "cuda:7"))
    for name in ("empty", "number", "half", "stretched", "mask", "turned"):
        assert found[name].dtype == sent[name].dtype
        assert torch.equal(found[name], sent[name]), name
    assert found["hollow"].is_meta
    first, second = found["tied"]
    assert first is second
    assert isinstance(first, nn.Parameter)
    assert not first.requires_grad
    assert torch.equal(first, tied)


def test_gpus_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    first = torch.device("cuda:1")
    assert [rooms._place(first, i) for i in range(3)] == ["cuda:1", "cuda:0", "cuda:1"]
    assert rooms._place(CPU, 1) == "cpu"
