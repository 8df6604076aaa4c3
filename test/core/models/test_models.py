"""The network keeps its promises whoever is alive."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint, fusion
from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.models.head import AllMLPHead, FoldedHead
from robustseg_core.models.mit import BACKBONES, Block, MiT, skip_rows
from robustseg_core.types import ModelSpec

pytestmark = pytest.mark.slow

NAMES = ("rgb", "depth", "event", "lidar")
H, W = 32, 64


def spec(**fields) -> ModelSpec:
    values = {
        "modalities": NAMES,
        "classes": CITYSCAPES.names,
        "palette": CITYSCAPES.palette,
        "head_width": 16,
    }
    return ModelSpec(**values | fields)


def network(seed: int = 0, **fields) -> AnyModalSegmenter:
    torch.manual_seed(seed)
    model = AnyModalSegmenter(spec(**fields)).eval()
    stir(model)
    return model


def stir(model: torch.nn.Module) -> None:
    """Random biases, norms and running statistics, so that no term hides behind a zero or a one."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "running_var" in name:
            tensor.data.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.data += 0.1 * torch.randn_like(tensor)


def images(batch: int, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: torch.randn(batch, 3, H, W) for name in NAMES}


MODEL = network()
PER_MODALITY = network(stem="per_modality", norm="per_modality")
MASKS = st.integers(1, 3).flatmap(
    lambda batch: st.lists(
        st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=batch, max_size=batch
    )
)


@pytest.mark.parametrize("model", [MODEL, PER_MODALITY], ids=["shared", "per_modality"])
@given(mask=MASKS)
@settings(max_examples=10, deadline=None)
@torch.inference_mode()
def test_a_batch_of_different_subsets_equals_one_robot_at_a_time(model, mask):
    alive = torch.tensor(mask)
    inputs = images(len(mask))
    together = model(inputs, alive)
    for b, row in enumerate(alive):
        alone = {name: inputs[name][b : b + 1] for name, on in zip(NAMES, row, strict=True) if on}
        expected = model(alone, row[None]).logits
        torch.testing.assert_close(together.logits[b : b + 1], expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_packed_features_are_those_of_each_sensor_by_itself():
    alive = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]]).bool()
    inputs = images(2)
    seen = MODEL(inputs, alive)
    assert seen.modality.tolist() == [0, 2, 2, 3]  # by modality, then by sample
    assert seen.sample.tolist() == [0, 0, 1, 1]
    for stage, (width, features) in enumerate(zip((16, 32, 64, 96), seen.features, strict=True)):
        assert features.shape == (4, width, H >> stage + 2, W >> stage + 2)
        for row, (s, m) in enumerate(zip(seen.sample, seen.modality, strict=True)):
            alone = MODEL.encoder(inputs[NAMES[m]][s : s + 1])[stage]
            torch.testing.assert_close(features[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    assert seen.logits.shape == (2, 19, H // 4, W // 4)


@torch.inference_mode()
def test_what_a_dead_sensor_says_never_matters():
    alive = torch.tensor([[1, 0, 0, 1], [1, 1, 0, 0]]).bool()
    inputs = images(2)
    expected = MODEL(inputs, alive).logits
    assert expected.isfinite().all()
    inputs["depth"][0] = torch.nan
    inputs["event"][:] = torch.inf
    inputs["lidar"][1] = torch.nan
    assert torch.equal(MODEL(inputs, alive).logits, expected)
    del inputs["event"]
    assert torch.equal(MODEL(inputs, alive).logits, expected)


@torch.inference_mode()
def test_mean_fusion_is_the_mean_of_the_survivors():
    alive = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0]]).bool()
    seen = MODEL(images(2), alive)
    fused = [
        torch.stack([features[seen.sample == s].mean(0) for s in range(2)])
        for features in seen.features
    ]
    torch.testing.assert_close(MODEL.head(fused), seen.logits, atol=1e-5, rtol=1e-5)


def test_an_unknown_fusion_names_those_there_are():
    with pytest.raises(RobustsegError, match="no Fusion called 'meen'; did you mean 'mean'"):
        network(fusion="meen")


@pytest.mark.parametrize("backbone", ["tiny", "b0", "b2"])
@torch.inference_mode()
def test_the_folded_head_is_the_same_function(backbone: str):
    channels = BACKBONES[backbone].channels
    head = AllMLPHead(channels, 96, 19).double().eval()
    stir(head)
    # odd ratios too: a crop need not shrink by exact halves
    for sizes in ([(16, 24), (8, 12), (4, 6), (2, 3)], [(15, 21), (8, 11), (4, 6), (2, 3)]):
        maps = [torch.randn(2, c, *size).double() for c, size in zip(channels, sizes, strict=True)]
        torch.testing.assert_close(head.fold()(maps), head(maps), atol=1e-10, rtol=1e-10)


@torch.inference_mode()
def test_many_means_through_the_folded_head_are_what_each_is_alone():
    head = AllMLPHead((8, 16), 160, 5).double().eval()
    stir(head)
    folded = head.fold()
    maps = [torch.randn(3, c, h, w).double() for c, h, w in ((8, 40, 24), (16, 20, 12))]
    weights = torch.tensor([[1, 0, 0], [0.5, 0, 0.5], [0.25, 0.5, 0.25]]).double()
    found = folded.of_means(maps, weights)
    means = [torch.einsum("tn,nchw->tchw", weights, x) for x in maps]
    torch.testing.assert_close(found, folded(means))
    torch.testing.assert_close(found, head(means))


@torch.inference_mode()
def test_the_folded_network_answers_the_same_and_leaves_the_original_alone():
    model = network(seed=3).double().train()
    inputs = {name: x.double() for name, x in images(2).items()}
    alive = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0]]).bool()
    twin = model.folded()
    assert isinstance(twin.head, FoldedHead) and not twin.training
    assert isinstance(model.head, AllMLPHead) and model.training
    expected = model.eval()(inputs, alive).logits
    torch.testing.assert_close(twin(inputs, alive).logits, expected, atol=1e-10, rtol=1e-10)
    assert torch.equal(twin.folded()(inputs, alive).logits, twin(inputs, alive).logits)


def test_a_graph_of_the_packed_network_can_be_exported():
    class Camera(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = MODEL.folded()

        def forward(self, rows: Tensor) -> Tensor:
            zeros = torch.zeros(1, dtype=torch.int64)
            return self.model.forward_packed(rows, zeros, zeros, batch=1).logits

    rows = torch.randn(1, 3, H, W)
    exported = torch.export.export(Camera().eval(), (rows,)).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(rows), Camera()(rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("backbone", "millions"), [("b0", 6.10), ("b2", 27.37)])
def test_sizes_are_the_published_ones(backbone: str, millions: float):
    classes = tuple(f"class {i}" for i in range(25))
    with torch.device("meta"):
        model = AnyModalSegmenter(
            spec(backbone=backbone, classes=classes, palette=((0, 0, 0),) * 25, head_width=768)
        )
    count = sum(p.numel() for p in model.parameters())
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize("options", [{}, {"stem": "per_modality", "norm": "per_modality"}])
@pytest.mark.parametrize("head", ["published", "folded"])
def test_every_weight_learns(options, head: str):
    torch.manual_seed(0)
    model = AnyModalSegmenter(spec(**options), head=head).train()
    for block in (m for m in model.modules() if isinstance(m, Block)):
        block.drop_path = 0
    alive = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]]).bool()
    model(images(2), alive).logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_dead_sensor_teaches_its_own_stem_nothing():
    model = network(stem="per_modality").train()
    alive = torch.tensor([[1, 0, 0, 1], [1, 0, 0, 0]]).bool()
    model(images(2), alive).logits.square().mean().backward()
    learned = [conv.weight.grad is not None for conv in model.encoder.stages[0].embed.proj]
    assert learned == [True, False, False, True]


@pytest.mark.parametrize("option", ["stem", "norm"])
@torch.inference_mode()
def test_weights_per_modality_follow_each_row(option: str):
    model = network(**{option: "per_modality"})
    image = torch.randn(1, 3, H, W)
    order = [3, 0, 2, 0, 1]
    mixed = model.encoder(image.expand(5, -1, -1, -1), torch.tensor(order))[-1]
    for row, column in enumerate(order):
        alone = model.encoder(image, torch.tensor([column]))[-1]
        torch.testing.assert_close(mixed[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    assert (mixed[0] - mixed[1]).abs().max() > 1e-2
    with pytest.raises(RobustsegError, match="modality of each row is None"):
        model.encoder(image)


def test_skipped_blocks_leave_the_mean_as_it_was():
    encoder = MiT("tiny", drop_path=0.5)
    block = encoder.stages[3].blocks[0]
    assert [stage.blocks[0].drop_path for stage in encoder.stages] == pytest.approx(
        [0, 1 / 6, 1 / 3, 0.5]
    )
    torch.manual_seed(0)
    kept = skip_rows(torch.ones(4000, 2, 2, 2), block.drop_path)
    assert set(kept.unique().tolist()) == {0, 2}
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(skip_rows(kept, 0), kept)


def test_half_precision_autocast_runs_and_stays_close():
    alive = torch.ones(1, 4, dtype=torch.bool)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        half = MODEL.folded()(images(1), alive).logits.float()
    with torch.inference_mode():
        full = MODEL(images(1), alive).logits
    assert (half - full).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x, a: (x | {"lidra": x["rgb"]}, a), "'lidra' that .*did you mean 'lidar'"),
        (lambda x, a: (x, a[:, :3]), r"alive is \(2, 3\) torch.bool; it must be \(B, 4\) bool"),
        (lambda x, a: (x, a.float()), r"alive is \(2, 4\) torch.float32"),
        (lambda x, a: (x, a[0]), r"alive is \(4\)"),
        (lambda x, a: (x, a & False), r"samples \[0, 1\] of a batch of 2 have no modality alive"),
        (lambda x, a: ({"rgb": x["rgb"]}, a), "alive says that 'depth' is there.*clear its column"),
        (
            lambda x, a: (x | {"rgb": x["rgb"][:1]}, a),
            r"'rgb' are \(1, 3, 32, 64\).*\(2, 3, H, W\)",
        ),
        (lambda x, a: (x | {"event": x["event"][:, :1]}, a), r"'event' are \(2, 1, 32, 64\)"),
        (lambda x, a: (x | {"event": x["event"].byte()}, a), "'event' are .*torch.uint8.*float32"),
        (
            lambda x, a: (x | {"depth": x["depth"][:, :, :30]}, a),
            "'depth' are 30x64; both must divide by 32; resize or pad to 32x64",
        ),
        (
            lambda x, a: (x | {"lidar": x["lidar"][..., :32]}, a),
            "'lidar' are 32x32 and those of 'rgb' 32x64; all must share one pixel grid",
        ),
    ],
)
def test_a_wrong_input_is_explained(change, text: str):
    inputs, alive = change(images(2), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(RobustsegError, match=text):
        MODEL(inputs, alive)


def test_wrong_health_scores_are_explained():
    alive = torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(RobustsegError, match=r"quality is \(4\); it must be \(2, 4\)"):
        MODEL(images(2), alive, torch.ones(4))


def test_health_scores_reach_the_fusion_in_packed_order():
    model = network()
    received = []
    for layer in model.fusions:
        layer.register_forward_pre_hook(lambda _, inputs: received.append(inputs[4]))
    alive = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]]).bool()
    quality = torch.arange(8).view(2, 4) / 8
    model(images(2), alive, quality)
    assert len(received) == 4
    assert all(scores.tolist() == [0, 2 / 8, 6 / 8, 7 / 8] for scores in received)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: MiT("b00"), "no backbone called 'b00'; did you mean 'b0'"),
        (lambda: AnyModalSegmenter(spec(), head="fold"), "no head called 'fold'; did you mean"),
    ],
)
def test_an_unknown_part_is_explained(build, text: str):
    with pytest.raises(RobustsegError, match=text):
        build()


def gated(seed: int = 0) -> tuple[torch.nn.Module, torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Untrained and trained gates, and packed rows of three samples with 1, 2 and 3 sensors."""
    torch.manual_seed(seed)
    fresh, moved = fusion.load("gated")(8, 3), fusion.load("gated")(8, 3)
    for parameter in moved.parameters():
        torch.nn.init.normal_(parameter)
    sample = torch.tensor([0, 1, 1, 2, 2, 2])
    modality = torch.tensor([2, 0, 1, 0, 1, 2])
    return fresh, moved, (torch.randn(6, 8, 4, 5), sample, modality)


def test_an_untrained_gate_over_healthy_sensors_is_the_mean():
    fresh, _, (rows, sample, modality) = gated()
    mean = fusion.load("mean")(8, 3)
    for quality in (None, torch.full((6,), 0.7)):
        assert torch.allclose(
            fresh(rows, sample, modality, 3, quality), mean(rows, sample, modality, 3), atol=1e-6
        )


def test_a_gate_mixes_what_its_own_sample_says_whatever_the_order():
    _, moved, (rows, sample, modality) = gated()
    whole = moved(rows, sample, modality, 3)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    again = moved(rows[order], sample[order], modality[order], 3)
    assert torch.allclose(whole, again, atol=1e-5)
    assert torch.allclose(whole[0], rows[0], atol=1e-5)  # alone: itself
    two = moved(rows[1:3], torch.zeros(2, dtype=torch.long), modality[1:3], 1)
    assert torch.allclose(whole[1:2], two, atol=1e-5)
    low, high = rows[3:].amin(0), rows[3:].amax(0)
    assert ((whole[2] >= low - 1e-5) & (whole[2] <= high + 1e-5)).all()


def test_a_sick_sensor_is_hardly_heard_unless_it_is_alone():
    fresh, moved, (rows, sample, modality) = gated()
    sick = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    for layer in (fresh, moved):
        fused = layer(rows, sample, modality, 3, sick)
        assert torch.allclose(fused[0], rows[0], atol=1e-5)
    assert (fresh(rows, sample, modality, 3, sick)[1] - rows[1]).abs().max() < 0.02


def test_a_gate_learns_through_all_its_parameters():
    fresh, _, (rows, sample, modality) = gated()
    fresh.score.weight.data.normal_()
    fresh(rows, sample, modality, 3).square().sum().backward()
    for name, parameter in fresh.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("backbone", ["tiny", "b0"])
def test_an_untrained_network_bears_a_zero_image(backbone):
    """Missing sensors may be zero images: their gradients are no larger than those of pictures."""
    spec = checkpoint.default_spec(("rgb", "depth"), backbone=backbone)
    model = checkpoint.untrained(spec, seed=0).train()
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    norms = []
    for depth in (picture, torch.zeros_like(picture)):
        model.zero_grad()
        alive = torch.ones(1, 2, dtype=torch.bool)
        model({"rgb": picture, "depth": depth}, alive).logits.square().sum().backward()
        norms.append(sum(float(p.grad.norm()) for p in model.parameters() if p.grad is not None))
    assert norms[1] < 10 * norms[0]
