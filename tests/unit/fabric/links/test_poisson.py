"""The lower bound of a Poisson mean, against tables."""

from __future__ import annotations

from math import exp, factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.fabric.links.poisson import least_mean

TABLE = [  # Pearson and Hartley, Biometrika Tables for Statisticians, volume 1, table 40: lower limits, one-sided
    (1, 0.95, 0.0513), (2, 0.95, 0.355), (3, 0.95, 0.818), (4, 0.95, 1.366), (5, 0.95, 1.970), (6, 0.95, 2.613),
    (10, 0.95, 5.425), (20, 0.95, 13.25), (50, 0.95, 38.96), (1, 0.99, 0.01005), (2, 0.99, 0.149), (3, 0.99, 0.436),
    (5, 0.99, 1.279), (10, 0.99, 4.130), (1, 0.975, 0.0253), (5, 0.975, 1.623), (30, 0.975, 20.24),
]  # fmt: skip


@pytest.mark.parametrize(("count", "confidence", "mean"), TABLE)
def test_as_in_the_tables(count: int, confidence: float, mean: float) -> None:
    assert least_mean(count, confidence) == pytest.approx(mean, rel=4e-3)


@given(st.integers(1, 120), st.floats(0.5, 0.999))
def test_it_is_the_mean_under_which_the_count_is_as_rare_as_asked(count: int, confidence: float) -> None:
    mean = least_mean(count, confidence)
    below = sum(exp(-mean) * mean**n / factorial(n) for n in range(count))
    assert 1 - below == pytest.approx(1 - confidence, rel=1e-6)


def test_no_event_proves_nothing_and_the_formula_for_many_meets_the_exact_one() -> None:
    assert least_mean(0, 0.95) == 0.0
    step = least_mean(1001, 0.95) - least_mean(1000, 0.95)
    assert 0.9 < step < 1.1


@given(st.integers(0, 5000))
def test_more_events_prove_more_and_never_more_than_themselves(count: int) -> None:
    assert least_mean(count, 0.95) < least_mean(count + 1, 0.95) < count + 1


@pytest.mark.parametrize(("count", "confidence"), [(-1, 0.95), (1, 0.0), (1, 1.0)])
def test_nonsense_is_refused(count: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        least_mean(count, confidence)
