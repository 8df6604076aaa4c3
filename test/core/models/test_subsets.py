"""Subsets: the papers' columns, the law of dropout, and what to expect when sensors fail."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.models.subsets import draw, expectation, short, subsets

FOUR = ("rgb", "depth", "event", "lidar")
# AnySeg on DELIVER, in the papers' order (docs/specs/network.md).
ANYSEG = (
    47.11,
    52.17,
    17.33,
    19.01,
    60.37,
    47.49,
    48.13,
    52.82,
    52.29,
    21.47,
    60.16,
    60.60,
    47.98,
    52.44,
    60.26,
)
DRAWS = 40_000


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_columns_are_those_of_the_papers():
    heads = [short(s) for s in subsets(FOUR)]
    assert heads == [
        "R",
        "D",
        "E",
        "L",
        "RD",
        "RE",
        "RL",
        "DE",
        "DL",
        "EL",
        "RDE",
        "RDL",
        "REL",
        "DEL",
        "RDEL",
    ]
    assert len(subsets(("rgb", "event", "lidar"))) == 7
    assert short(("rgb", "thermal")) == "R+thermal"


@pytest.mark.parametrize(("p", "published"), [(0.2, 55.52), (0.1, 58.08), (0.05, 59.22)])
def test_expectation_gives_anysegs_published_row(p, published):
    scores = dict(zip(subsets(FOUR), ANYSEG, strict=True))
    assert expectation(scores, FOUR, p) == pytest.approx(published, abs=0.005)


@given(p=st.floats(0, 0.999), count=st.integers(1, 5))
def test_expectation_of_equal_scores_is_that_score(p, count):
    names = tuple(f"s{k}" for k in range(count))
    assert expectation(dict.fromkeys(subsets(names), 7.0), names, p) == pytest.approx(7.0)


def test_if_nothing_ever_fails_only_the_full_set_counts():
    scores = dict(zip(subsets(FOUR), ANYSEG, strict=True))
    assert expectation(scores, FOUR, 0.0) == ANYSEG[-1]
    with pytest.raises(RobustsegError, match="p is 1"):
        expectation(scores, FOUR, 1.0)
    del scores[("rgb",)]
    with pytest.raises(RobustsegError, match="no score for R;"):
        expectation(scores, FOUR, 0.1)


@pytest.mark.parametrize("count", [3, 4])
def test_uniform_dropout_follows_anysegs_law(count):
    names = FOUR[:count]
    drawn = draw("uniform", torch.ones(DRAWS, count, dtype=torch.bool), rng())
    shares = {}
    for subset in subsets(names):
        row = torch.tensor([n in subset for n in names])
        shares[subset] = float((drawn == row).all(1).float().mean())
    law = {3: {1: 1 / 9, 2: 1 / 9, 3: 1 / 3}, 4: {1: 1 / 16, 2: 1 / 24, 3: 1 / 16, 4: 1 / 4}}
    for subset, share in shares.items():
        assert share == pytest.approx(law[count][len(subset)], abs=0.006)
    assert float(drawn.float().mean()) == pytest.approx((count + 1) / (2 * count), abs=0.005)


@given(
    law=st.sampled_from(["all", "uniform", "fragile"]),
    present=st.lists(
        st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=1, max_size=9
    ),
    seed=st.integers(0, 2**31),
)
def test_nobody_is_drawn_who_is_not_there_and_never_nobody(law, present, seed):
    there = torch.tensor(present)
    drawn = draw(law, there, rng(seed), fragile=(1.0, 1.0, 5.0, 5.0))
    assert not (drawn & ~there).any()
    assert drawn.any(1).all()


def test_fragile_sensors_are_practised_more_often():
    everyone = torch.ones(DRAWS, 4, dtype=torch.bool)
    kept = draw("fragile", everyone, rng(), fragile=(1.0, 1.0, 3.0, 3.0)).float().mean(0)
    assert kept[2:].min() > kept[:2].max() + 0.1
    assert draw("fragile", everyone, rng()).all(1).float().mean() > 0.25


def test_an_unknown_law_is_refused():
    with pytest.raises(RobustsegError, match="no law of dropout called 'some'"):
        draw("some", torch.ones(1, 2, dtype=torch.bool), rng())
