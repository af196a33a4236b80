import math

import pytest
import torch

from jensen.training.records import Records


def steps(n: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"a": torch.randn(1 + i % 3, generator=generator), "b": torch.tensor(float(i))} for i in range(n)]


def test_means_are_over_the_data_and_not_over_the_steps() -> None:
    records = Records()
    for record in steps(257):
        records.add(record)
    every = torch.cat([record["a"] for record in steps(257)]).double()
    assert records.means() == pytest.approx({"a": float(every.mean()), "b": 128.0}, rel=1e-12)
    records.clear()
    assert records.means() == {}


def test_values_that_arent_finite_are_left_out() -> None:
    records = Records()
    for value in (1.0, math.nan, 3.0, math.inf):
        records.add({"a": torch.tensor([value]), "never": torch.tensor([math.nan])})
    assert records.means() == {"a": 2.0}


@pytest.mark.parametrize("kept", [1, 99, 100, 101, 150])
def test_going_on_from_a_kept_state_changes_no_bit(kept: int) -> None:
    whole, first, second = Records(), Records(), Records()
    for number, record in enumerate(steps(257)):
        whole.add(record)
        if number < kept:
            first.add(record)
    second.load_state_dict(first.state_dict())
    for record in steps(257)[kept:]:
        second.add(record)
    assert second.means() == whole.means()


@pytest.mark.parametrize("looks", [(1,), (47,), (99, 100), (30, 31, 130)])
def test_looking_in_between_changes_no_bit(looks: tuple[int, ...]) -> None:
    """As when a fit is interrupted and gone on with; here the sums have more digits than float64 holds."""
    whole, often = Records(), Records()
    for number, record in enumerate(steps(257)):
        for records in (whole, often):
            records.add({name: value.double().exp() ** 5 for name, value in record.items()})
        if number in looks:
            often.means()
    assert often.means() == whole.means()
