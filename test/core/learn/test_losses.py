"""Cross-entropy on the hard pixels: which ones count, and what happens when none do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.learn.losses import label_loss, lovasz_softmax, ohem_cross_entropy, thinned
from robustseg_core.learn.recipe import LossRecipe
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import IGNORE


def scene(seed: int = 0, sure: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits (2, 4, 8, 8), raised by `sure` for the true class, and labels with a hole."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (2, 8, 8), generator=rng)
    logits = torch.randn(2, 4, 8, 8, generator=rng)
    logits += sure * F.one_hot(label, 4).permute(0, 3, 1, 2)
    label[:, :3] = IGNORE
    return logits.requires_grad_(), label


def slow(logits, label, threshold: float, least_share: float) -> float:
    losses = []
    for b, y, x in torch.nonzero(label != IGNORE).tolist():
        share = logits[b, :, y, x].double().softmax(0)[label[b, y, x]]
        losses.append(-math.log(float(share)))
    losses.sort(reverse=True)
    hard = [loss for loss in losses if loss > -math.log(threshold)]
    least = max(1, int(len(losses) * least_share))
    kept = hard if len(hard) >= least else losses[:least]
    return sum(kept) / len(kept)


@given(
    seed=st.integers(0, 1000),
    sure=st.floats(-2, 12),
    threshold=st.floats(0.05, 1),
    share=st.floats(0, 1),
)
def test_the_hard_pixels_count_and_never_too_few_of_them(seed, sure, threshold, share):
    logits, label = scene(seed, sure)
    logits = logits.detach().double()
    loss = ohem_cross_entropy(logits, label, threshold=threshold, least_share=share)
    assert loss.item() == pytest.approx(slow(logits, label, threshold, share), rel=1e-9)


def test_when_everything_is_easy_the_least_easy_sixteenth_counts():
    logits, label = scene(sure=12)
    valid = int((label != IGNORE).sum())
    ohem_cross_entropy(logits, label).backward()
    touched = logits.grad.abs().sum(1) > 0
    assert int(touched.sum()) == valid // 16


def test_unlabelled_pixels_get_no_gradient():
    logits, label = scene()
    ohem_cross_entropy(logits, label, threshold=1.0).backward()
    assert logits.grad[:, :, :3].abs().max() == 0
    assert logits.grad[:, :, 3:].abs().sum() > 0


def test_a_batch_that_nobody_labelled_is_zero_with_a_graph():
    logits, label = scene()
    loss = ohem_cross_entropy(logits, torch.full_like(label, IGNORE))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_half_precision_is_summed_in_full():
    logits, label = scene()
    loss = ohem_cross_entropy(logits.half(), label)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(ohem_cross_entropy(logits, label).item(), rel=1e-2)


def test_logits_of_another_size_are_an_error_with_the_way_out():
    logits, label = scene()
    with pytest.raises(RobustsegError, match="resize_logits"):
        ohem_cross_entropy(logits[..., ::2, ::2], label)
    enlarged = resize_logits(logits[..., ::2, ::2], (8, 8))
    assert ohem_cross_entropy(enlarged, label).isfinite()


@pytest.mark.parametrize("options", [{"threshold": 0}, {"threshold": 1.5}, {"least_share": -0.1}])
def test_an_option_out_of_range_is_an_error(options):
    with pytest.raises(RobustsegError, match="expected"):
        ohem_cross_entropy(*scene(), **options)


def test_enlarged_logits_are_what_the_engines_enlarge():
    logits, _ = scene()
    expected = F.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize_logits(logits, (32, 32)), expected)
    assert resize_logits(logits, (8, 8)) is logits
    assert resize_logits(logits.bfloat16(), (16, 16)).dtype == torch.float32


def slow_lovasz(logits: torch.Tensor, label: torch.Tensor) -> float:
    """The Lovasz extension by its definition: what each pixel adds to the Jaccard loss."""
    probable = logits.double().softmax(1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    truth = label.flatten()
    kept = truth != IGNORE
    probable, truth = probable[kept], truth[kept]
    losses = []
    for own in truth.unique().tolist():
        inside = truth == own
        error = torch.where(inside, 1 - probable[:, own], probable[:, own])
        wrong = torch.zeros_like(inside)
        total, before = 0.0, 0.0
        for pixel in error.argsort(descending=True).tolist():
            wrong[pixel] = True
            met = int((inside & ~wrong).sum())
            jaccard = 1 - met / int((inside | wrong).sum())
            total += float(error[pixel]) * (jaccard - before)
            before = jaccard
        losses.append(total)
    return sum(losses) / len(losses)


def test_lovasz_is_its_definition():
    logits, label = scene(seed=3)
    found = lovasz_softmax(logits, label)
    found.backward()
    assert found.item() == pytest.approx(slow_lovasz(logits.detach(), label), abs=1e-6)
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.any()
    sure = 50.0 * F.one_hot(label.clamp(max=3), 4).permute(0, 3, 1, 2).float()
    assert float(lovasz_softmax(sure, label)) == pytest.approx(0, abs=1e-6)
    assert float(lovasz_softmax(-sure, label)) > 0.9
    assert lovasz_softmax(logits, torch.full_like(label, IGNORE)).item() == 0
    assert 0 < lovasz_softmax(logits, label, most=10).item() < 1


def test_a_thinned_label_shifts_nothing_and_every_pixel_of_a_block_has_its_turn():
    rows = torch.arange(8).view(1, 8, 1).expand(1, 8, 8)
    found = thinned(rows, (4, 4))[0, :, 0]
    assert found.tolist() == [0, 3, 4, 7]  # the middle of blocks of two: 0.5, 2.5, ... on average
    assert torch.equal(thinned(rows, (8, 8)), rows)


def test_a_recipe_says_where_labels_are_compared_and_whether_iou_counts():
    logits, label = scene()
    fine = F.interpolate(logits.detach(), scale_factor=0.5, mode="bilinear")
    here = label_loss(LossRecipe(at="head"), fine, label)
    assert float(here) == float(ohem_cross_entropy(fine, thinned(label, (4, 4))))
    both = label_loss(LossRecipe(at="head", lovasz=2), fine, label)
    assert float(both - here) == pytest.approx(
        2 * float(lovasz_softmax(fine, thinned(label, (4, 4)))), abs=1e-6
    )
