from math import cos, pi

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jensen.training import Settings

FRACTIONS = st.floats(0, 1)


@settings(deadline=None)
@given(warm_up=st.floats(0.001, 0.999), fraction=FRACTIONS, decay=st.booleans())
def test_the_step_size_is_continuous(warm_up: float, fraction: float, decay: bool) -> None:
    plan = Settings(learning_rate=0.1, warm_up=warm_up, decay=decay)
    # The steepest is the warm-up or the cosine, whose slope is at most pi / 2 over what is left.
    steepest = 0.1 * max(1 / warm_up, pi / 2 / (1 - warm_up))
    for step in (1e-6, -1e-6):
        other = min(max(fraction + step, 0.0), 1.0)
        assert abs(plan.rate(fraction) - plan.rate(other)) <= steepest * 1e-6 * (1 + 1e-6) + 1e-15


@settings(deadline=None)
@given(warm_up=FRACTIONS, fraction=FRACTIONS, decay=st.booleans())
def test_the_step_size_is_between_zero_and_the_highest(warm_up: float, fraction: float, decay: bool) -> None:
    assert 0 <= Settings(learning_rate=0.1, warm_up=warm_up, decay=decay).rate(fraction) <= 0.1


def test_the_step_size_grows_in_a_line_and_falls_along_a_half_cosine() -> None:
    plan = Settings(learning_rate=0.2, warm_up=0.2, decay=True)
    assert plan.rate(0.0) == 0
    assert plan.rate(0.05) == pytest.approx(0.05)
    assert plan.rate(0.2) == pytest.approx(0.2)
    assert plan.rate(0.6) == pytest.approx(0.1)
    assert plan.rate(0.8) == pytest.approx(0.1 * (1 + cos(0.75 * pi)))
    assert plan.rate(0.999) < 1e-6
    assert plan.rate(1.0) == pytest.approx(0, abs=1e-15)


def test_the_step_size_stays_where_it_does_not_decay() -> None:
    plan = Settings(learning_rate=0.2, warm_up=0.1, decay=False)
    assert plan.rate(0.05) == pytest.approx(0.1)
    assert [plan.rate(f) for f in (0.1, 0.5, 1.0)] == [0.2] * 3


def test_the_step_size_starts_at_its_highest_without_a_warm_up() -> None:
    assert Settings(learning_rate=0.2, warm_up=0.0).rate(0.0) == 0.2
