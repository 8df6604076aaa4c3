"""CMNeXt: sizes, sensors that are missing, names of public weights, and the robot's camera."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustseg_core.engines import LackingError
from robustseg_core.engines.eager import EagerEngine
from robustseg_core.errors import RobustsegError
from robustseg_core.models import architectures, checkpoint
from robustseg_core.models.architectures._exchange import Rectification
from robustseg_core.models.architectures._hub import PoolMixer, loudest
from robustseg_core.models.architectures.cmnext import CMNeXt, cmnext_rows
from robustseg_core.predictor import Predictor
from robustseg_core.types import Bundle, Frame, ModelSpec

pytestmark = pytest.mark.slow

NAMES = ("rgb", "depth", "event", "lidar")
SIZE = (32, 64)


def spec(others: int = 3, **fields: object) -> ModelSpec:
    fields = {"architecture": "cmnext", "size": SIZE, "head_width": 16} | fields
    return checkpoint.default_spec(NAMES[: others + 1], **fields)


def images(batch: int = 2, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, 3, *SIZE, generator=rng) for name in names}


def loud(model: CMNeXt) -> CMNeXt:
    """Mixers whose branches count, so that nothing hides behind a small scale."""
    for mixer in (m for m in model.modules() if isinstance(m, PoolMixer)):
        torch.nn.init.ones_(mixer.scale1)
        torch.nn.init.ones_(mixer.scale2)
    return model


@pytest.mark.parametrize(
    ("backbone", "width", "counts"),
    [
        ("b0", 256, (3_720_569, 10_291_449, 10_303_745, 10_310_405)),
        ("b2", 512, (25_785_049, 58_694_225, 58_718_809, 58_732_125)),
    ],
)
def test_sizes_are_the_published_ones(backbone, width, counts):
    classes = tuple(f"class {k}" for k in range(25))
    for others, count in enumerate(counts):
        with torch.device("meta"):
            model = CMNeXt(
                spec(
                    others,
                    backbone=backbone,
                    head_width=width,
                    classes=classes,
                    palette=((0, 0, 0),) * 25,
                )
            )
        assert sum(p.numel() for p in model.parameters()) == count


@settings(max_examples=30, deadline=None)
@given(
    there=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_the_hub_keeps_the_loudest_of_those_who_are_there(there, seed):
    rng = torch.Generator().manual_seed(seed)
    batch = len(there)
    every = torch.randn(3, batch, 2, 3, 2, generator=rng, dtype=torch.double)
    mask = torch.tensor(there).T  # (3, B)
    rows = {m: own.nonzero().flatten() for m, own in enumerate(mask) if own.any()}
    maps = {m: every[m, own].requires_grad_() for m, own in rows.items()}
    found = loudest(maps, rows, every[0])
    naive = every.masked_fill(~mask[:, :, None, None, None], -torch.inf).amax(0)
    assert torch.equal(found, naive.masked_fill(naive == -torch.inf, 0))
    if maps:
        found.sum().backward()
        got = sum(maps[m].grad.sum() for m in maps)
        assert got == mask.any(0).sum() * 12, "each position of each sample is one sensor's"


def test_a_branch_that_is_not_there_gives_nothing():
    torch.manual_seed(0)
    mend = Rectification(4)
    a, b = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6)
    there = torch.tensor([[1, 1], [1, 0], [0, 1]]).bool()
    x, y = mend(a, b, there)
    assert torch.equal(x[1], a[1]) and not torch.allclose(y[1], b[1])
    assert torch.equal(y[2], b[2]) and not torch.allclose(x[2], a[2])
    assert not torch.allclose(x[0], a[0]) and not torch.allclose(y[0], b[0])


@torch.inference_mode()
def test_a_sensor_that_is_left_out_is_another_thing_than_one_that_shows_zeros():
    model = loud(checkpoint.untrained(spec()))
    shown = images(1)
    for gone in NAMES:
        alive = torch.tensor([[name != gone for name in NAMES]])
        skipped = model(shown, alive).logits
        zeros = shown | {gone: torch.zeros_like(shown[gone])}
        zeroed = model(zeros, torch.ones(1, 4).bool()).logits
        assert (skipped - zeroed).abs().max() > 1e-4, gone


@torch.inference_mode()
def test_features_are_those_of_each_sensor_before_they_meet():
    """In the first stage, where nothing has met yet: whoever else is there."""
    model = loud(checkpoint.untrained(spec()))
    shown = images(2)
    whole = model(shown, torch.ones(2, 4).bool())
    for column, name in enumerate(NAMES):
        alone = model({name: shown[name]}, torch.tensor([[n == name for n in NAMES]] * 2))
        own = whole.features[0][whole.modality == column]
        torch.testing.assert_close(alone.features[0], own)


@torch.inference_mode()
def test_the_released_scramble_needs_two_others():
    for others, same in ((1, True), (2, False)):
        plain, released = (
            loud(checkpoint.untrained(spec(others, options={"legacy_scramble": legacy})))
            for legacy in (False, True)
        )
        shown = images(1, NAMES[: others + 1])
        alive = torch.ones(1, others + 1).bool()
        seen, scrambled = (model(shown, alive) for model in (plain, released))
        assert torch.equal(seen.fused[0], scrambled.fused[0])
        assert torch.equal(seen.logits, scrambled.logits) is same


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"fusion": "gated"}, "fusion is 'gated', but cmnext has its own way .* m_segformer"),
        ({"norm": "per_modality"}, "norm is 'per_modality', but cmnext"),
        ({"stem": "per_modality"}, "stem is 'per_modality', but cmnext"),
        ({"backbone": "b9"}, "no backbone called 'b9'"),
        ({"options": {"legacy_scrambl": True}}, "did you mean 'legacy_scramble'"),
        ({"options": {"without_first": "guess"}}, "options.without_first is 'guess'"),
    ],
)
def test_what_it_cannot_be_told_is_explained(fields, text):
    with pytest.raises(RobustsegError, match=text):
        checkpoint.untrained(spec(**fields))


def test_every_tensor_has_one_official_name():
    model = checkpoint.untrained(spec())
    assert isinstance(model, CMNeXt)
    rows = cmnext_rows(model)
    ours, theirs = (set(names) for names in zip(*rows, strict=True))
    assert len(ours) == len(theirs) == len(rows)
    beside = {name for name in model.state_dict() if not name.startswith(("rgb.", "head."))}
    assert ours == beside
    known = r"(extra_(downsample_layers|score_predictor)\.\d|extra_(block|norm)[1-4]|F[RF]Ms\.\d)\."
    assert all(re.match(known, name) for name in theirs)


def frame(name: str) -> Frame:
    return Frame(name, 0, images(1)[name][0].numpy())


def test_a_robot_makes_no_mask_without_the_camera_unless_told_so():
    refusing = checkpoint.untrained(spec(2))
    assert refusing.needs == architectures.needs(refusing.spec) == ("rgb",)
    engine = EagerEngine(refusing, torch.device("cpu"))
    assert engine(Bundle(0, {"rgb": frame("rgb")}))[0].shape == SIZE
    with pytest.raises(LackingError, match=r"\(cmnext\) makes no mask without rgb, and .* depth"):
        engine(Bundle(0, {"depth": frame("depth")}))
    told = spec(2, options={"without_first": "zero"})
    assert architectures.needs(told) == ()
    blind = EagerEngine(checkpoint.untrained(told), torch.device("cpu"))
    ids, confidence = blind(Bundle(0, {"depth": frame("depth")}))
    assert ids.shape == SIZE and confidence.min() > 0


def test_a_prediction_without_the_camera_is_a_sentence():
    model = checkpoint.untrained(spec(1))
    predictor = Predictor(model.spec, EagerEngine(model, torch.device("cpu")))
    with pytest.raises(RobustsegError, match="no mask without rgb"):
        predictor.predict({"depth": np.full((32, 64), 2.0)})


def test_without_others_it_is_segformer():
    alone = checkpoint.untrained(spec(0))
    assert not len(alone.hub) and not cmnext_rows(alone)
    seen = alone(images(1, ("rgb",)), torch.ones(1, 1).bool())
    assert all(a is b for a, b in zip(seen.features, seen.fused, strict=True))
