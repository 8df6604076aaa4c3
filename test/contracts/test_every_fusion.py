"""What every file in `models/fusion/` promises: one map per sample, whoever is alive."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustseg_core.errors import RobustsegError
from robustseg_core.models import fusion
from robustseg_core.models.fusion._base import Fusion

NAMES = fusion.available()
every = pytest.mark.parametrize("name", NAMES)
C, M, SIZE = 8, 3, (4, 6)
MASKS = st.lists(
    st.lists(st.integers(0, 1), min_size=M, max_size=M).filter(any), min_size=1, max_size=3
)


def make(name: str) -> Fusion:
    """With weights as after training: nothing is 0 any more."""
    torch.manual_seed(0)
    made = fusion.load(name)(C, M).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def rows_of(mask: list[list[int]], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, int]:
    alive = torch.tensor(mask).bool()
    modality, sample = alive.T.nonzero(as_tuple=True)
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(len(sample), C, *SIZE, generator=rng), sample, modality, len(mask)


@every
@given(mask=MASKS)
@settings(max_examples=10, deadline=None)
def test_any_subset_gives_one_finite_map_per_sample_and_gradients(name, mask):
    layer = make(name)
    rows, sample, modality, batch = rows_of(mask)
    rows.requires_grad_()
    fused = layer(rows, sample, modality, batch)
    assert fused.shape == (batch, C, *SIZE)
    fused.square().sum().backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
    assert rows.grad.flatten(1).abs().sum(1).gt(0).all()  # every sensor that is there is heard


@every
@given(mask=MASKS, seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_the_order_of_packed_rows_does_not_matter(name, mask, seed):
    layer = make(name)
    rows, sample, modality, batch = rows_of(mask)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    again = layer(rows[order], sample[order], modality[order], batch)
    torch.testing.assert_close(again, layer(rows, sample, modality, batch), atol=1e-5, rtol=1e-5)


@every
def test_a_sample_is_fused_as_if_it_were_alone(name):
    layer = make(name)
    rows, sample, modality, batch = rows_of([[1, 1, 0], [0, 0, 1], [1, 1, 1]])
    whole = layer(rows, sample, modality, batch)
    for one in range(batch):
        own = sample == one
        alone = layer(rows[own], torch.zeros(int(own.sum()), dtype=torch.int64), modality[own], 1)
        torch.testing.assert_close(whole[one : one + 1], alone, atol=1e-5, rtol=1e-5)


@every
@pytest.mark.slow
def test_a_fusion_can_be_exported(name):
    rows, sample, modality, batch = rows_of([[1, 1, 1]])

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = make(name)

        def forward(self, rows: Tensor) -> Tensor:
            return self.layer(rows, sample, modality, batch)

    exported = torch.export.export(Graph().eval(), (rows,)).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(rows), Graph()(rows), atol=1e-5, rtol=1e-5)


@every
def test_a_sample_without_sensors_is_refused(name):
    rows, sample, modality = torch.randn(2, C, *SIZE), torch.tensor([0, 2]), torch.tensor([1, 2])
    with pytest.raises(RobustsegError, match=r"samples \[1\] of a batch of 3 have no modality"):
        make(name)(rows, sample, modality, 3, None)


def slow_mff(rows: Tensor, *, soft: bool) -> Tensor:
    """(m, C, h, w) of one sample to (C, h, w), position by position."""
    fused = torch.empty_like(rows[0])
    for y in range(rows.shape[2]):
        for x in range(rows.shape[3]):
            f = rows[:, :, y, x]
            r = f.mean(0)
            f_mb = torch.stack([torch.cosine_similarity(v, r, dim=0) * v for v in f]).mean(0)
            c = torch.stack([torch.cosine_similarity(v, f_mb, dim=0) for v in f])
            chosen = (c / 0.1).softmax(0) @ f if soft else f[int(c.argmax())]
            fused[:, y, x] = (f_mb + chosen) / 2
    return fused


@pytest.mark.parametrize("name", ["mff", "mff_soft"])
@pytest.mark.parametrize("mask", [[[1, 1, 0], [0, 1, 1]], [[1, 1, 1]]], ids=str)
def test_any2segs_fusion_is_its_formula(name, mask):
    rows, sample, modality, batch = rows_of(mask, seed=4)
    rows = rows.double()
    ours = fusion.load(name)(C, M)(rows, sample, modality, batch)
    for one in range(batch):
        slow = slow_mff(rows[sample == one], soft=name == "mff_soft")
        torch.testing.assert_close(ours[one], slow, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ["mff", "mff_soft"])
def test_any2segs_fusion_of_one_sensor_is_its_feature(name):
    layer = fusion.load(name)(C, M)
    rows, sample, modality, batch = rows_of([[0, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(layer(rows, sample, modality, batch), rows[sample.argsort()])
    agreeing = rows[:1].expand(3, -1, -1, -1)
    fused = layer(agreeing, torch.zeros(3, dtype=torch.int64), torch.arange(3), 1)
    torch.testing.assert_close(fused, rows[:1])
    assert list(layer.parameters()) == []
    blank = layer(torch.zeros_like(rows), sample, modality, batch)
    assert blank.isfinite().all()  # where nothing is seen there is no direction


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]], ids=str)
def test_of_equal_cosines_that_of_the_first_modality_wins(order):
    sample, modality = torch.zeros(3, dtype=torch.int64), torch.tensor(order)
    share = fusion.load("mff")(C, M).share(torch.ones(3, 1, *SIZE), sample, modality, 1)
    assert torch.equal(share, (modality == 0).view(3, 1, 1, 1).expand_as(share).float())


@pytest.mark.parametrize("channels", [32, 256])
def test_rounding_does_not_choose_between_two_sensors_of_equal_length(channels):
    """Their cosines to what they say together are equal, as at the start of a training."""
    torch.manual_seed(0)
    rows = torch.nn.functional.layer_norm(
        torch.randn(2, 16, 16, channels), (channels,), eps=0
    ).permute(0, 3, 1, 2)
    layer, sample = fusion.load("mff")(channels, 2), torch.zeros(2, dtype=torch.int64)
    for order in ([0, 1], [1, 0]):
        fused = layer(rows[order], sample, torch.tensor(order), 1)
        mean = rows.mean(0)
        f_mb = torch.stack([torch.cosine_similarity(x, mean, dim=0) * x for x in rows]).mean(0)
        torch.testing.assert_close(fused[0], (f_mb + rows[0]) / 2)


def test_magics_gates_are_masked_and_begin_beside_the_mean():
    torch.manual_seed(0)
    layer = fusion.load("magic")(C, M)
    rows, sample, modality, batch = rows_of([[1, 1, 0], [0, 0, 1]])
    mean = fusion.load("mean")(C, M)(rows, sample, modality, batch)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.zero_()  # all gates half open, and no MLP says anything yet
    torch.testing.assert_close(layer(rows, sample, modality, batch), 1.5 * mean)
