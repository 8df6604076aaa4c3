"""The product's network: ImageNet's weights, where sensors meet, and what their health means."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustseg_core.errors import RobustsegError
from robustseg_core.models import fusion, lite0
from robustseg_core.models.architectures.swift import Swift
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.models.lite0 import LightStem, Trunk
from robustseg_core.models.weights import initialize
from support.golden import golden, picture

pytestmark = pytest.mark.slow

NAMES = ("rgb", "depth", "lidar")
SIZE = (32, 64)
has_weights = pytest.mark.skipif(
    importlib.util.find_spec(lite0.PACKAGE) is None, reason=f"{lite0.PACKAGE} is not installed"
)


def swift(seed: int = 0, *, fusion: str = "trust", head: str = "published", **options) -> Swift:
    """With fusions that have learned something."""
    spec = default_spec(
        NAMES,
        architecture="swift",
        fusion=fusion,
        options=options,
        size=SIZE,
        channels={"lidar": 5},
        stem="per_modality",
    )
    model = untrained(spec, seed=seed, head=head)
    assert isinstance(model, Swift)
    rng = torch.Generator().manual_seed(seed)
    for parameter in model.fusions.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=rng)
    return model


def images(batch: int, seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    channels = {"rgb": 3, "depth": 3, "lidar": 5}
    return {n: torch.randn(batch, channels[n], *SIZE, generator=rng) for n in NAMES}


MODEL = swift()
ALL = torch.ones(2, 3, dtype=torch.bool)


@has_weights
@torch.inference_mode()
def test_it_computes_what_the_code_computes_that_the_weights_came_with():
    recorded = golden("lite0").arrays
    tensors = lite0.read(lite0.packaged())
    stem, trunk = LightStem(3).eval(), Trunk().eval()
    lite0.fill(stem, tensors, of=[(lite0.MEAN, lite0.STD)] * 3)
    lite0.fill_trunk(trunk, tensors)
    maps = stem(torch.from_numpy(picture(14, (2, 3, 64, 96))))
    maps += trunk(maps[-1])
    for stride, found in zip((2, 4, 8, 16, 32), maps, strict=True):
        _, _, h, w = found.shape
        part = found[:, ::4, :: max(1, h // 4), :: max(1, w // 6)]
        np.testing.assert_allclose(part, recorded[f"stride{stride}"], atol=2e-5, rtol=1e-4)


@has_weights
@torch.inference_mode()
def test_a_cameras_own_scale_is_put_into_its_first_convolution():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensors = lite0.read(lite0.packaged())
    plain, ours = LightStem(3).eval(), LightStem(3).eval()
    lite0.fill(plain, tensors, of=[(lite0.MEAN, lite0.STD)] * 3)
    lite0.fill(ours, tensors, of=list(zip(mean, std, strict=True)))
    x = torch.rand(1, 3, 32, 32)
    scaled = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = plain.first((x - lite0.MEAN) / lite0.STD)
    inner = (..., slice(0, -1), slice(0, -1))  # what lies beyond the picture is another grey
    torch.testing.assert_close(ours.first(scaled)[inner], expected[inner], atol=1e-4, rtol=1e-4)


@has_weights
def test_a_recipe_begins_with_imagenet_by_name():
    model = swift(stems="full")
    told = str(initialize("imagenet", model))
    assert "all 240 tensors of EfficientNet-lite0's stages" in told and told.startswith(
        "efficientnet-lite0-57934424.pth (SHA"
    )
    first = [stem.first.conv.weight for stem in model.stems]
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[1][:, 0], first[1][:, 2])  # another sensor: all channels alike
    torch.testing.assert_close(first[1].sum(1), first[2].sum(1))  # 3 and 5 channels
    assert torch.equal(
        model.stems[0].stages[2][0].expand.conv.weight,
        model.stems[2].stages[2][0].expand.conv.weight,
    )
    with pytest.raises(RobustsegError, match=r"set network\.head=published"):
        initialize("efficientnet-lite0", swift(head="folded"))


@has_weights
def test_slim_stems_have_no_public_weights_and_the_camera_has():
    slim, full = swift(), swift(stems="full")
    before = slim.stems[1].first.conv.weight.clone()
    for model in (slim, full):
        initialize("imagenet", model)
    assert torch.equal(slim.stems[1].first.conv.weight, before)
    assert torch.equal(slim.stems[0].first.conv.weight, full.stems[0].first.conv.weight)
    assert torch.equal(
        slim.body.stages[0][0].narrow.conv.weight, full.body.stages[0][0].narrow.conv.weight
    )


def test_weights_that_are_not_installed_are_explained(monkeypatch):
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(RobustsegError, match=r"EfficientNet-lite0 are not here: .*not installed"):
        initialize("imagenet", swift())


def test_a_file_that_is_damaged_is_explained(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"PK nothing")
    with pytest.raises(RobustsegError, match=r"x\.pth cannot be read \("):
        lite0.read(tmp_path / "x.pth")


def test_it_is_small():
    spec = default_spec(("rgb", "depth", "event", "lidar"), architecture="swift", fusion="trust")
    count = sum(p.numel() for p in untrained(spec).parameters())
    assert 3.1e6 < count < 3.3e6


@pytest.mark.parametrize("meet", ["middle", "every"])
@pytest.mark.parametrize("stride", [2, 4])
@torch.inference_mode()
def test_each_form_answers_at_its_stride_and_folds(meet: str, stride: int):
    model = swift(meet=meet, stride=stride).double()
    inputs = {n: x.double() for n, x in images(2).items()}
    alive = torch.tensor([[True, False, True], [False, True, False]])
    seen = model(inputs, alive)
    assert seen.logits.shape == (2, 19, SIZE[0] // stride, SIZE[1] // stride)
    assert tuple(x.shape[1] for x in seen.fused) == model.widths
    assert len(model.widths) == (3 if meet == "middle" else 5) - (stride == 4)
    twin = model.folded()
    assert twin.head_form == "folded" and model.head_form == "published"
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in twin.modules())
    torch.testing.assert_close(twin(inputs, alive).logits, seen.logits, atol=1e-8, rtol=1e-8)


@torch.inference_mode()
def test_rows_in_any_order_are_encoded_alike():
    rows, _, modality = MODEL.pack(images(2), ALL)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    there = MODEL.encode(rows, modality)
    for a, b in zip(MODEL.encode(rows[order], modality[order]), there, strict=True):
        torch.testing.assert_close(a, b[order])


@pytest.mark.parametrize("kind", ["trust", "gated"])
@pytest.mark.parametrize("meet", ["middle", "every"])
@torch.inference_mode()
def test_a_sensor_of_no_health_counts_for_nothing(kind: str, meet: str):
    model, inputs = swift(fusion=kind, meet=meet), images(2)
    quality = torch.tensor([[1.0, 0.0, 0.3], [0.0, 0.7, 0.0]])
    told = model(inputs, ALL, quality).logits
    torch.testing.assert_close(told, model(inputs, quality > 0, quality).logits)
    broken = {n: x + 50 * (n == "depth") for n, x in inputs.items()}
    torch.testing.assert_close(model(broken, ALL, quality).logits[0], told[0])


@torch.inference_mode()
def test_views_of_a_batch_are_what_each_of_them_is_by_itself():
    inputs, quality = images(2), torch.tensor([[1.0, 0.2, 0.3], [0.0, 0.7, 1.0]])
    views = [torch.tensor([[1, 0, 1], [0, 0, 1]]).bool(), ALL, torch.eye(3).bool()[:2]]
    for view, found in zip(views, MODEL.forward_views(inputs, views, quality), strict=True):
        alone = MODEL(inputs, view, quality)
        torch.testing.assert_close(found.logits, alone.logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(found.sample, alone.sample)
        assert torch.equal(found.modality, alone.modality)
        for a, b in zip(
            [*found.features, *found.fused], [*alone.features, *alone.fused], strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_somebody_is_always_heard():
    inputs = images(2)
    dead = MODEL(inputs, ALL, torch.zeros(2, 3)).logits
    torch.testing.assert_close(dead, MODEL(inputs, ALL).logits)


@pytest.mark.parametrize("kind", ["trust", "gated"])
@given(
    quality=st.lists(st.floats(0.05, 1), min_size=3, max_size=3),
    sensor=st.integers(0, 2),
    worse=st.floats(0, 1),
    seed=st.integers(0, 9),
)
@settings(max_examples=30, deadline=None)
def test_a_share_never_grows_while_health_falls(kind, quality, sensor, worse, seed):
    torch.manual_seed(seed)
    layer = fusion.load(kind)(4, 3).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    rows = torch.randn(3, 4, 2, 3).double()
    rows[:, 0] = torch.eye(3)[sensor].view(
        3, 1, 1
    )  # its own mark: what of it comes out is its share
    zeros, columns = torch.zeros(3, dtype=torch.int64), torch.arange(3)

    def share(health: list[float]) -> Tensor:
        told = torch.tensor(health).double()
        return layer(rows, zeros, columns, 1, told)[0, 0]

    lower = [q * worse if m == sensor else q for m, q in enumerate(quality)]
    better, less = share(quality), share(lower)
    assert (less <= better + 1e-9).all()
    assert (better > 0).all() and (better < 1 + 1e-9).all()
    if worse == 0:
        assert torch.equal(less, torch.zeros_like(less))


@pytest.mark.parametrize("columns", [(0, 2)], ids=str)
def test_a_graph_of_a_subset_can_be_exported(columns: tuple[int, ...]):
    class Subset(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = MODEL.folded()

        def forward(self, *given: Tensor) -> Tensor:
            *shown, quality = given
            return self.model.forward_subset(shown, columns, quality)

    names = [NAMES[column] for column in columns]
    inputs = images(1)
    shown = [inputs[n] for n in names]
    quality = torch.tensor([0.5, 1.0][: len(columns)])
    exported = torch.export.export(Subset().eval(), (*shown, quality)).module()
    alive = torch.tensor([[n in names for n in NAMES]])
    told = torch.zeros(1, 3)
    told[0, list(columns)] = quality
    with torch.inference_mode():
        expected = MODEL(inputs, alive, told).logits
        torch.testing.assert_close(exported(*shown, quality), expected, atol=1e-4, rtol=1e-4)
