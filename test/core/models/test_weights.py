"""Public weights arrive whole, or not at all, and never run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.models.weights import PublicWeights, import_weights
from robustseg_core.types import ModelSpec
from support.official import as_transformers, official

pytestmark = pytest.mark.slow

ALIVE = torch.tensor([[True, False], [True, True]])
SPEC = ModelSpec(
    modalities=("rgb", "lidar"),
    classes=CITYSCAPES.names,
    palette=CITYSCAPES.palette,
    head_width=8,
)


def network(seed: int = 0, head: str = "published", **fields) -> AnyModalSegmenter:
    model = checkpoint.untrained(SPEC.model_copy(update=fields), seed=seed, head=head)
    torch.manual_seed(7)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2)
    return model


def logits(model: AnyModalSegmenter) -> torch.Tensor:
    torch.manual_seed(0)
    images = {name: torch.randn(2, 3, 32, 64) for name in SPEC.modalities}
    with torch.inference_mode():
        return model(images, ALIVE).logits


def nvlabs(width: int = 8, classes: int = 19) -> dict[str, torch.Tensor]:
    """A `tiny` SegFormer as NVlabs' mix_transformer.py and segformer_head.py name it."""
    torch.manual_seed(5)
    tensors: dict[str, torch.Tensor] = {}

    def put(name: str, *shape: int, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = torch.randn(shape)
        if bias:
            tensors[f"{name}.bias"] = torch.randn(shape[0])

    entering = 3
    for s, (c, reduction) in enumerate(zip((16, 32, 64, 96), (8, 4, 2, 1), strict=True), start=1):
        kernel = 7 if s == 1 else 3
        put(f"backbone.patch_embed{s}.proj", c, entering, kernel, kernel)
        put(f"backbone.patch_embed{s}.norm", c)
        block = f"backbone.block{s}.0."
        put(block + "norm1", c)
        put(block + "attn.q", c, c)
        put(block + "attn.kv", 2 * c, c)
        put(block + "attn.proj", c, c)
        if reduction > 1:
            put(block + "attn.sr", c, c, reduction, reduction)
            put(block + "attn.norm", c)
        put(block + "norm2", c)
        put(block + "mlp.fc1", 4 * c, c)
        put(block + "mlp.dwconv.dwconv", 4 * c, 1, 3, 3)
        put(block + "mlp.fc2", c, 4 * c)
        put(f"backbone.norm{s}", c)
        put(f"decode_head.linear_c{s}.proj", width, c)
        entering = c
    put("decode_head.linear_fuse.conv", width, 4 * width, 1, 1, bias=False)
    put("decode_head.linear_fuse.bn", width)
    tensors["decode_head.linear_fuse.bn.running_mean"] = torch.randn(width)
    tensors["decode_head.linear_fuse.bn.running_var"] = torch.rand(width) + 0.5
    tensors["decode_head.linear_fuse.bn.num_batches_tracked"] = torch.tensor(9)
    put("decode_head.linear_pred", classes, width, 1, 1)
    put("decode_head.conv_seg", classes, 128, 1, 1)  # mmseg's base class makes it, nobody calls it
    return tensors


def mit(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As ImageNet training leaves it: the encoder without prefix, and 1000 classes."""
    encoder = {k[9:]: v for k, v in tensors.items() if k.startswith("backbone.")}
    return encoder | {"head.weight": torch.zeros(1000, 96), "head.bias": torch.zeros(1000)}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_an_nvlabs_segformer_is_imported_whole(tmp_path: Path, suffix: str):
    tensors, path = nvlabs(), tmp_path / f"segformer.{suffix}"
    if suffix == "pth":
        torch.save({"meta": {"epoch": 3}, "state_dict": tensors}, path)
    else:
        save_file(tensors, path)
    model = network()
    report = import_weights(path, model, head="need")
    assert (report.layout, report.head) == ("NVlabs", "imported")
    assert report.unused == ("decode_head.conv_seg.bias", "decode_head.conv_seg.weight")
    assert len(report.used) == len(tensors) - 2
    state = model.state_dict()
    block = "encoder.stages.1.blocks.0."
    for ours, theirs in {
        "encoder.stages.2.embed.proj.0.weight": "backbone.patch_embed3.proj.weight",
        f"{block}attention.key_value.weight": "backbone.block2.0.attn.kv.weight",
        f"{block}attention.reduce_norm.0.bias": "backbone.block2.0.attn.norm.bias",
        "head.linears.3.weight": "decode_head.linear_c4.proj.weight",
        "head.norm.running_var": "decode_head.linear_fuse.bn.running_var",
        "head.classifier.bias": "decode_head.linear_pred.bias",
    }.items():
        assert torch.equal(state[ours], tensors[theirs]), ours


def test_public_weights_fill_all_of_cmnext_or_the_camera_s_branch_alone(tmp_path: Path):
    model = checkpoint.untrained(SPEC.model_copy(update={"architecture": "cmnext"}))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    beside = dict(model.public_rows())
    tensors = mit(nvlabs())
    path = tmp_path / "public.safetensors"
    save_file(tensors, path)
    assert "the file has none" in import_weights(path, model).head
    state = model.state_dict()
    assert torch.equal(
        state["rgb.stages.1.blocks.0.mlp.expand.weight"], tensors["block2.0.mlp.fc1.weight"]
    )
    assert all(torch.equal(state[name], before[name]) for name in beside)
    with pytest.raises(RobustsegError, match="lacks extra_downsample_layers"):
        import_weights(path, model, head="need")

    shapes = {f"backbone.{theirs}": before[ours].shape for ours, theirs in beside.items()}
    tensors = nvlabs() | {name: torch.rand(shape) for name, shape in shapes.items()}
    save_file(tensors, path)
    report = import_weights(path, model, head="need")
    assert len(report.used) == len(tensors) - 2
    state = model.state_dict()
    for ours, theirs in beside.items():
        assert torch.equal(state[ours], tensors[f"backbone.{theirs}"].to(state[ours].dtype)), ours
    with pytest.raises(RobustsegError, match=r"tensors that nothing here takes, first backbone\."):
        import_weights(path, network())
    del tensors["backbone.extra_block2.0.layer_scale_1"]
    save_file(tensors, path)
    with pytest.raises(RobustsegError, match=r"lacks backbone\.extra_block2\.0\.layer_scale_1;"):
        import_weights(path, model)


def test_both_namings_of_one_network_agree(tmp_path: Path):
    tensors = nvlabs()
    save_file(tensors, tmp_path / "nvlabs.safetensors")
    save_file(as_transformers(tensors), tmp_path / "hub.safetensors")
    one, two = network(seed=1), network(seed=2)
    import_weights(tmp_path / "nvlabs.safetensors", one)
    assert import_weights(tmp_path / "hub.safetensors", two).layout == "transformers"
    assert torch.equal(logits(one), logits(two))


def test_an_imagenet_encoder_fills_every_modality_and_leaves_the_head(tmp_path: Path):
    path = tmp_path / "mit.pth"
    torch.save(mit(nvlabs()), path)
    model = network(stem="per_modality", norm="per_modality")
    before = {k: v.clone() for k, v in model.head.state_dict().items()}
    report = import_weights(path, model)
    assert report.unused == ("head.bias", "head.weight") and "the file has none" in report.head
    stem = model.encoder.stages[0].embed
    for conv, norm in zip(stem.proj, stem.norm, strict=True):
        assert torch.equal(conv.weight, nvlabs()["backbone.patch_embed1.proj.weight"])
        assert torch.equal(norm.bias, nvlabs()["backbone.patch_embed1.norm.bias"])
    assert all(torch.equal(v, before[k]) for k, v in model.head.state_dict().items())
    with pytest.raises(RobustsegError, match="the file has none; give such a file or import with"):
        import_weights(path, model, head="need")


def test_a_folded_network_receives_the_folded_public_head(tmp_path: Path):
    path = tmp_path / "segformer.safetensors"
    save_file({k: v * 0.2 if "var" not in k else v for k, v in nvlabs().items()}, path)
    published, folded = network(), network(head="folded")
    import_weights(path, published)
    assert import_weights(path, folded).head == "imported"
    torch.testing.assert_close(logits(folded), logits(published), atol=1e-4, rtol=1e-4)


def test_a_head_of_other_classes_stays_out_and_the_report_says_so(tmp_path: Path):
    path = tmp_path / "ade.safetensors"
    save_file(nvlabs(width=4, classes=150), path)
    report = import_weights(path, network())
    assert "150 classes at width 4, this network's 19 at 8" in report.head
    assert "head: left as it was" in str(report)
    assert "decode_head.linear_pred.weight" in report.unused
    assert import_weights(path, network(), head="skip").head == "left as it was, as asked"
    with pytest.raises(RobustsegError, match="150 classes"):
        import_weights(path, network(), head="need")


def _without(name: str):
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_without("backbone.block2.0.attn.kv.bias"), "lacks backbone.block2.0.attn.kv.bias;"),
        (
            _without("decode_head.linear_fuse.bn.running_var"),
            "lacks decode_head.linear_fuse.bn.run",
        ),
        (
            lambda t: t | {"backbone.gate": torch.zeros(1)},
            "1 tensors that nothing .* backbone.gate",
        ),
        (
            lambda t: t | {"backbone.patch_embed1.proj.weight": torch.zeros(16, 4, 7, 7)},
            r"has backbone.patch_embed1.proj.weight of \(16, 4, 7, 7\).*needs \(16, 3, 7, 7\)",
        ),
        (
            lambda t: t | {"backbone.block1.1.norm1.weight": torch.zeros(16)},
            r"first width of 16 and depths \(2, 1, 1, 1\), but backbone 'tiny'",
        ),
        (
            lambda t: t | {"module.backbone.norm1.bias": torch.zeros(16)},
            "both 'backbone.norm1.bias' and 'module.backbone.norm1.bias', which mean the same",
        ),
        (
            lambda t: {"layers.0.0.projection.weight": t["backbone.norm1.bias"]},
            "holds neither .* does not fit is 'layers.0.0.projection.weight'",
        ),
        (lambda t: {}, "holds neither .* it has no tensor"),
    ],
)
def test_public_weights_that_do_not_fit_are_explained_and_change_nothing(
    tmp_path: Path, change, text: str
):
    path = tmp_path / "odd.safetensors"
    save_file(change(nvlabs()), path)
    model = network()
    before = logits(model)
    with pytest.raises(RobustsegError, match=text):
        import_weights(path, model)
    assert torch.equal(logits(model), before)


def test_weights_of_another_backbone_name_the_right_one(tmp_path: Path):
    path = tmp_path / "mit.safetensors"
    save_file(mit(nvlabs()), path)
    with pytest.raises(RobustsegError, match=r"but backbone 'b0' has 32 .*; use backbone 'tiny'"):
        import_weights(path, network(backbone="b0"))


def test_our_own_checkpoints_are_sent_to_load(tmp_path: Path):
    path = tmp_path / "student.safetensors"
    checkpoint.save(path, network())
    with pytest.raises(RobustsegError, match="is a checkpoint of robustseg already"):
        import_weights(path, network())


@pytest.mark.filterwarnings("error")  # nor does PyTorch tell the user of its unpickler
def test_code_in_a_file_of_weights_is_never_run(tmp_path: Path):
    trap, path = tmp_path / "trap", tmp_path / "mit.pth"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    torch.save({"state_dict": nvlabs(), "meta": Evil()}, path)
    with pytest.raises(RobustsegError, match="code from a file is never run") as caught:
        import_weights(path, network())
    assert "weights_only" not in str(caught.value) and "torch." not in str(caught.value)
    path.write_bytes(pickle.dumps(Evil(), protocol=4))
    with pytest.raises(RobustsegError, match="code from a file is never run"):
        import_weights(path, network())
    torch.save({"state_dict": nvlabs(), "meta": Evil()}, path)
    with pytest.raises(
        RobustsegError, match=r"`robustseg import .*mit.pth --as SYSTEM --kind DATA"
    ):
        checkpoint.load(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: None, "is not a file; give .safetensors, .pth or .pt"),
        (lambda p: p.write_bytes(b""), "cut short"),
        (lambda p: (torch.save(nvlabs(), p), os.truncate(p, 20000)), "cut short"),
        (lambda p: p.write_bytes(b"hello, this is no file of weights"), "cut short"),
        (lambda p: torch.save([torch.zeros(1)], p), "holds no mapping where names"),
        (lambda p: torch.save({"epoch": 3}, p), "holds 'epoch', a int, where names"),
    ],
)
def test_a_file_that_holds_no_weights_is_explained(tmp_path: Path, make, text: str):
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(RobustsegError, match=text) as caught:
        import_weights(path, network())
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_tensor_has_the_name_that_it_would_have_in_the_file(tmp_path: Path):
    path = tmp_path / "official.pth"
    for tensors, name in (
        (official("m_segformer"), "encoder.block3.1.norm2.weight"),
        (official("m_segformer"), "decoder.linear_pred.weight"),
        ({f"module.{k}": v for k, v in nvlabs().items()}, "module.backbone.norm4.bias"),
    ):
        torch.save({k: v for k, v in tensors.items() if k != name}, path)
        with pytest.raises(RobustsegError, match=f"lacks {name}; give"):
            file = PublicWeights(path)
            model = network(backbone=file.backbone(), head_width=file.head_size()[1])
            import_weights(file, model, head="need")


def test_an_unknown_wish_for_the_head_is_explained(tmp_path: Path):
    with pytest.raises(RobustsegError, match="head is 'ned'; did you mean 'need'"):
        import_weights(tmp_path / "x.pth", network(), head="ned")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("backbone.norm1.bias", torch.full((16,), torch.nan), "norm1.bias with 16 of 16 values"),
        ("backbone.norm1.bias", torch.full((16,), 1e300, dtype=torch.float64), "not finite"),
        ("decode_head.linear_fuse.bn.running_var", torch.full((8,), -1.0), "never negative"),
        ("backbone.norm1.bias", torch.ones(16, dtype=torch.int64), "torch.int64; this network"),
        ("backbone.norm1.bias", torch.ones(16, dtype=torch.complex64), "torch.complex64; this"),
        ("backbone.norm1.bias", torch.ones(16).to_sparse(), "torch.sparse_coo"),
        ("backbone.norm1.bias", torch.tensor(1.0), r"norm1.bias of \(\); this network needs"),
        ("backbone.patch_embed1.proj.weight", torch.tensor(1.0), "first width of 0"),
        ("backbone.block1.0.attn.kv.bias", torch.zeros(0), r"of \(0,\)"),
        ("decode_head.linear_pred.weight", torch.tensor(1.0), r"linear_pred.weight of \(\)"),
    ],
)
def test_public_weights_that_no_network_can_have_are_named_and_change_nothing(
    tmp_path: Path, name: str, value: torch.Tensor, text: str
):
    path = tmp_path / "odd.pth"
    torch.save(nvlabs() | {name: value}, path)
    model = network()
    before = logits(model)
    with pytest.raises(RobustsegError, match=text):
        import_weights(path, model)
    assert torch.equal(logits(model), before)


def test_keys_and_values_of_different_widths_are_named(tmp_path: Path):
    hub = as_transformers(nvlabs())
    name = "segformer.encoder.block.0.0.attention.self.value.weight"
    save_file(hub | {name: torch.zeros(16, 3)}, tmp_path / "hub.safetensors")
    with pytest.raises(RobustsegError, match=r"attention.self.key.weight of \(16, 16\)"):
        import_weights(tmp_path / "hub.safetensors", network())
