"""Our counts and intervals beside those of libraries that everybody uses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustseg_core.datasets import Sample
from robustseg_core.evaluation.bootstrap import interval, student
from robustseg_core.evaluation.counting import Truth
from robustseg_core.metrics import confusion, iou, mean_iou
from robustseg_core.types import IGNORE

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    stats = pytest.importorskip("scipy.stats")

CLASSES = 5
EXAMPLES = settings(max_examples=40, deadline=None)

known = st.integers(0, CLASSES - 1)
truths = arrays(np.uint8, (6, 9), elements=known | st.just(IGNORE))
predictions = arrays(np.uint8, (6, 9), elements=known)


def tensors(*ids):
    return [torch.from_numpy(one.astype(np.int64)) for one in ids]


@EXAMPLES
@given(truths, predictions)
def test_the_confusion_is_torchmetrics(truth, labels):
    wanted = theirs.multiclass_confusion_matrix(
        *tensors(labels, truth), num_classes=CLASSES, ignore_index=IGNORE
    )
    ours = confusion(truth, labels, CLASSES)
    assert np.array_equal(ours[:, :CLASSES], wanted) and not ours[:, CLASSES].any()
    streamed = Truth(Sample("one", {}, truth, {}), CLASSES, torch.device("cpu"))
    assert np.array_equal(streamed.confusion(torch.from_numpy(labels).long().flatten()), ours)


@EXAMPLES
@given(truths, arrays(np.uint8, (6, 9), elements=known | st.just(IGNORE)))
def test_pixels_without_a_prediction_are_one_more_class_that_is_never_true(truth, labels):
    called = np.where(labels == IGNORE, CLASSES, labels)
    wanted = theirs.multiclass_confusion_matrix(
        *tensors(called, truth), num_classes=CLASSES + 1, ignore_index=IGNORE
    )
    assert np.array_equal(confusion(truth, labels, CLASSES), wanted[:CLASSES])


@EXAMPLES
@given(truths, predictions)
def test_iou_is_torchmetrics_and_so_are_both_rules_for_absent_classes(truth, labels):
    counts = confusion(truth, labels, CLASSES)
    if not counts.any():
        return  # nothing has a label: they say 0, we say that there is none

    def jaccard(average: str) -> np.ndarray:
        how = {"num_classes": CLASSES, "ignore_index": IGNORE, "average": average}
        return theirs.multiclass_jaccard_index(*tensors(labels, truth), **how).numpy()

    each = jaccard("none")
    assert np.nan_to_num(iou(counts)) == pytest.approx(each)
    assert mean_iou(counts, absent="zero") == pytest.approx(each.mean())
    assert mean_iou(counts, absent="skip") == pytest.approx(float(jaccard("macro")))


@pytest.mark.parametrize("scenes", [3, 5, 12, 40])
@pytest.mark.parametrize("seed", range(3))
def test_an_interval_is_scipy_s_bca_at_the_level_that_few_scenes_ask_for(scenes, seed):
    """mIoU of one class: a ratio of sums, whose scenes are of very different sizes."""
    rng = np.random.default_rng(seed)
    unions = rng.lognormal(5, 1, scenes)
    hits = unions * rng.beta(5, 2, scenes)

    def ratio(hits, unions, axis=-1):
        return hits.sum(axis) / unions.sum(axis)

    width = np.sqrt(scenes / (scenes - 1)) * student(scenes - 1)
    found = stats.bootstrap(
        (hits, unions),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=2000,
        confidence_level=2 * stats.norm.cdf(width) - 1,
        method="BCa",
        rng=rng,
    )
    estimate = float(ratio(hits, unions))
    without = np.array([ratio(np.delete(hits, k), np.delete(unions, k)) for k in range(scenes)])
    low, high = found.confidence_interval
    ours = interval(found.bootstrap_distribution, estimate, without)
    assert ours == pytest.approx((min(low, estimate), max(high, estimate)), abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 39, 400])
def test_student_s_distribution_is_scipy_s(freedom):
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)
