"""Counting first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.metrics import (
    ABSENT,
    PRIOR_GRID,
    PositionPrior,
    confusion,
    hits_and_unions,
    iou,
    kept,
    mean_iou,
    mean_over_classes,
    reliability,
    sureness,
)
from robustseg_core.types import IGNORE


def ids(*values):
    return np.array([values], np.uint8)


def test_a_worked_example():
    counts = confusion(ids(0, 0, 1, 1, IGNORE), ids(0, 1, 1, IGNORE, 0), classes=3)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert iou(counts)[:2].tolist() == [0.5, pytest.approx(1 / 3)]
    assert np.isnan(iou(counts)[2])
    assert mean_iou(counts) == pytest.approx((0.5 + 1 / 3) / 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50))
def test_iou_is_what_sets_of_pixels_say(pairs):
    truth, labels = (np.array(column, np.uint8)[None] for column in zip(*pairs, strict=True))
    values = iou(confusion(truth, labels, 4))
    for k in range(4):
        both, either = (truth == k) & (labels == k), (truth == k) | (labels == k)
        if either.any():
            assert values[k] == pytest.approx(both.sum() / either.sum())
        else:
            assert np.isnan(values[k])


def test_counts_add_up_over_frames():
    a, b = (ids(0, 1, 1), ids(0, 0, 1)), (ids(1, 0, 0), ids(1, 1, 0))
    whole = confusion(np.hstack([a[0], b[0]]), np.hstack([a[1], b[1]]), 2)
    assert np.array_equal(whole, confusion(*a, 2) + confusion(*b, 2))


@pytest.mark.parametrize(
    "truth, labels, said",
    [(ids(0, 1), ids(0), "resize one"), (ids(7), ids(0), "truth have the id 7")],
)
def test_what_cannot_be_compared_is_an_error(truth, labels, said):
    with pytest.raises(RobustsegError, match=said):
        confusion(truth, labels, 3)


def test_a_class_that_nobody_saw_counts_as_nothing_or_not_at_all():
    counts = confusion(ids(0, 0, 1, 1), ids(0, 0, 1, 0), classes=3)
    assert mean_iou(counts, absent="skip") == mean_iou(counts) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert mean_iou(counts, absent="zero") == pytest.approx((2 / 3 + 1 / 2) / 3)
    with pytest.raises(RobustsegError, match="did you mean 'zero'"):
        mean_iou(counts, absent="zeros")


@pytest.mark.parametrize("absent", ABSENT)
def test_means_of_many_matrices_at_once_are_those_of_each(absent):
    counts = np.random.default_rng(0).integers(0, 3, (2, 5, 4, 5))
    counts[0, 0], counts[1, 2, 3], counts[1, 2, :, 3] = 0, 0, 0
    together = mean_over_classes(*hits_and_unions(counts), absent=absent)
    for place in np.ndindex(2, 5):
        alone = mean_iou(counts[place], absent=absent)
        assert together[place] == pytest.approx(alone, nan_ok=True)
        assert np.isnan(alone) == (place == (0, 0))


@given(st.integers(0, 2**31), st.integers(1, 4))
def test_the_position_prior_paints_from_other_scenes(seed, scenes):
    rng = np.random.default_rng(seed)
    size, classes = PRIOR_GRID, 3  # a cell is a pixel
    labels = [
        rng.choice([0, 1, 2, IGNORE], p=[0.6, 0.2, 0.1, 0.1], size=size).astype(np.uint8)
        for _ in range(2 * scenes)
    ]
    prior = PositionPrior(classes)
    for i, label in enumerate(labels):
        prior.add(label, scene=i // 2, part=i % 2)
    expected = {0: np.zeros((3, 4), int), 1: np.zeros((3, 4), int)}
    for i, label in enumerate(labels):
        others = [x for k, x in enumerate(labels) if scenes == 1 or k // 2 != i // 2]
        votes = np.stack([sum((x == c).astype(int) for x in others) for c in range(classes)])
        expected[i % 2] += confusion(label, votes.argmax(0).astype(np.uint8), classes)
    found = prior.counts()
    assert prior.own == (scenes == 1)
    for part, counts in expected.items():
        assert np.array_equal(found[part], counts)


@given(st.integers(0, 2**31))
def test_sureness_counts_each_known_pixel_once_and_keeps_what_is_sure_enough(seed):
    rng = np.random.default_rng(seed)
    truth, labels = rng.choice([0, 1, 2, IGNORE], size=(2, 6, 9)).astype(np.uint8)
    confidence = rng.integers(0, 256, size=(6, 9)).astype(np.uint8)
    table = sureness(truth, labels, confidence, 3)
    known = (truth != IGNORE) & (labels != IGNORE)
    assert table.sum() == known.sum() and table[..., 1].sum() == (known & (truth == labels)).sum()
    bins = reliability(table)
    assert bins[:, 0].sum() == known.sum()
    assert bins[:, 2].sum() == pytest.approx(confidence[known].sum() / 255)
    least = [[100, 256, 0], [0, 0, 0]]
    found = kept(table, least)
    sure = [confidence >= np.array(row + [256] * 253)[labels] for row in least]
    for row, enough in zip(found, sure, strict=True):
        for k in range(3):
            own = known & enough & (labels == k)
            assert row[k].tolist() == [own.sum(), (own & (truth == labels)).sum()]
