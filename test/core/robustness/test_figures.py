"""The published figures of robustness, on numbers that can be done by hand."""

from __future__ import annotations

import math

import pytest

from robustseg_core.errors import RobustsegError
from robustseg_core.robustness.figures import (
    corruption_error,
    mean,
    percentile,
    poisson_upper,
    relative_resistance,
    resilience,
)


def test_the_corruption_error_is_the_error_over_the_baselines_summed_over_severities():
    assert corruption_error([0.5, 0.4, 0.3], [0.4, 0.2, 0.0]) == pytest.approx(1.8 / 2.4)
    assert corruption_error([0.4, 0.2], [0.4, 0.2]) == 1.0
    mce = mean([corruption_error([0.5], [0.0]), corruption_error([0.2], [0.2])])
    assert mce == pytest.approx((0.5 + 1.0) / 2), "each fault weighs the same"


@pytest.mark.parametrize(
    ("theirs", "ours", "published"),
    [
        ((0.4224, 0.6300), (0.5174, 0.5209), 0.9954),  # motion blur
        ((0.4224, 0.6768), (0.5174, 0.6096), 0.9587),  # camera crash
    ],
)
def test_published_corruption_errors_come_out(theirs, ours, published):
    """RoboBEV's tables: clean NDS and RR of DETR3D and BEVFormer-Base give the CE between them."""
    scores, baseline = [math.prod(ours)] * 3, [math.prod(theirs)] * 3
    assert corruption_error(scores, baseline) == pytest.approx(published, abs=1e-4)
    assert resilience(scores, ours[0]) == pytest.approx(ours[1])


def test_resilience_is_what_is_left_of_the_clean_score():
    assert resilience([0.4, 0.3, 0.2], 0.5) == pytest.approx(0.9 / 1.5)
    assert resilience([0.5], 0.5) == 1.0


def test_relative_resistance_is_above_zero_where_the_baseline_is_beaten():
    assert relative_resistance([0.3, 0.3], [0.2, 0.2]) == pytest.approx(0.5)
    assert relative_resistance([0.1], [0.2]) == pytest.approx(-0.5)


def test_figures_that_nothing_can_be_said_of_are_none():
    assert corruption_error([0.5], [1.0]) is None, "a baseline without an error"
    assert resilience([0.5], 0.0) is None
    assert relative_resistance([0.5], [0.0]) is None
    assert mean([None, None]) is None and mean([]) is None
    assert mean([None, 0.5]) == 0.5
    assert percentile([], 50) is None


def test_severities_of_two_lists_belong_together():
    with pytest.raises(ValueError, match="2 severities, and 1 of the baseline"):
        corruption_error([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="no severity"):
        resilience([], 0.5)


def test_a_percentile_of_few_delays_lies_between_them():
    assert percentile([1.0, 2.0], 50) == 1.5
    assert percentile([3.0, 1.0, 2.0], 99) == pytest.approx(2.98)


@pytest.mark.parametrize(
    ("count", "upper"), [(0, 2.995732), (1, 4.743865), (2, 6.295794), (10, 16.962219)]
)
def test_the_upper_bound_of_a_poisson_rate_is_garwoods(count, upper):
    """One-sided 95 %: half of the 95 % point of chi squared with 2 (count + 1) degrees."""
    assert poisson_upper(count, 1.0) == pytest.approx(upper, abs=1e-6)
    assert poisson_upper(count, 4.0) == pytest.approx(upper / 4, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1, 3, 17, 400, 100_000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_bound_is_scipys(count, confidence):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.chi2.ppf(confidence, 2 * (count + 1)) / 2 / 10.0
    assert poisson_upper(count, 10.0, confidence=confidence) == pytest.approx(expected, rel=1e-9)


def test_nothing_is_known_of_no_time_and_less_than_none_is_refused():
    assert poisson_upper(0, 0.0) is None
    assert poisson_upper(0, 1.0, confidence=0.95) == pytest.approx(-math.log(0.05))
    for count, hours in ((-1, 1.0), (0, -1.0), (0, math.inf)):
        with pytest.raises(RobustsegError, match="expected"):
            poisson_upper(count, hours)
