"""Our network against `transformers`' SegFormer: same weights in, same logits out."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import pytest
import torch

from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.models.mit import BACKBONES, MiT
from robustseg_core.models.weights import import_weights
from robustseg_core.types import ModelSpec

pytestmark = pytest.mark.slow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    from transformers import SegformerConfig, SegformerForSemanticSegmentation


def public_segformer(backbone: str, width: int = 48) -> torch.nn.Module:
    """A SegFormer with random weights and a BatchNorm that has seen something."""
    shape = BACKBONES[backbone]
    torch.manual_seed(1)
    model = SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=shape.channels,
            depths=shape.depths,
            num_attention_heads=shape.heads,
            decoder_hidden_size=width,
            num_labels=19,
        )
    ).eval()
    for parameter in model.parameters():  # far from the tame initial values, biases included
        parameter.data += 0.05 * torch.randn_like(parameter)
    norm = model.decode_head.batch_norm
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return model


def ours(backbone: str, head: str = "published", width: int = 48) -> AnyModalSegmenter:
    spec = ModelSpec(
        modalities=("rgb",),
        classes=CITYSCAPES.names,
        palette=CITYSCAPES.palette,
        backbone=backbone,
        head_width=width,
    )
    return AnyModalSegmenter(spec, head=head).eval()


def logits(model: AnyModalSegmenter, images: torch.Tensor) -> torch.Tensor:
    return model({"rgb": images}, torch.ones(len(images), 1, dtype=torch.bool)).logits


@pytest.fixture(scope="module")
def publish(tmp_path_factory: pytest.TempPathFactory):
    """Backbone to (their model, its file), written by their own `save_pretrained`."""

    @functools.cache
    def make(backbone: str) -> tuple[torch.nn.Module, Path]:
        public = public_segformer(backbone)
        folder = tmp_path_factory.mktemp(backbone)
        public.save_pretrained(folder)
        return public, folder / "model.safetensors"

    return make


@pytest.mark.parametrize(
    ("backbone", "head"), [("tiny", "published"), ("tiny", "folded"), ("b0", "published")]
)
def test_a_segformer_file_gives_the_logits_that_it_gives_elsewhere(publish, backbone, head):
    public, path = publish(backbone)
    images = torch.randn(2, 3, 64, 96)
    model = ours(backbone, head)
    report = import_weights(path, model, head="need")
    assert report.head == "imported" and report.layout == "transformers"
    with torch.inference_mode():
        expected = public(images).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(logits(model, images), expected, atol=1e-4, rtol=1e-4)


def test_the_only_difference_to_transformers_is_the_eps_of_the_norms(publish):
    public, path = publish("tiny")
    images = torch.randn(1, 3, 64, 96)
    model = ours("tiny")
    model.encoder = MiT("tiny", eps=1e-5).eval()  # as transformers has it
    import_weights(path, model)
    with torch.inference_mode():
        expected = public(images).logits
        torch.testing.assert_close(logits(model, images), expected, atol=1e-5, rtol=1e-5)


def test_every_stage_equals_theirs(publish):
    public, path = publish("tiny")
    images = torch.randn(1, 3, 64, 64)
    model = ours("tiny")
    import_weights(path, model, head="skip")
    with torch.inference_mode():
        theirs = public(images, output_hidden_states=True).hidden_states
        for mine, their in zip(model.encoder(images), theirs, strict=True):
            torch.testing.assert_close(mine, their, atol=1e-4, rtol=1e-4)


def test_an_encoder_alone_is_imported_and_the_head_stays(publish, tmp_path: Path):
    public, _ = publish("tiny")
    public.segformer.save_pretrained(tmp_path)
    model = ours("tiny")
    before = model.head.fuse.weight.clone()
    report = import_weights(tmp_path / "model.safetensors", model)
    assert "the file has none" in report.head
    assert torch.equal(model.head.fuse.weight, before)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        theirs = public.segformer(images).last_hidden_state
        torch.testing.assert_close(model.encoder(images)[-1], theirs, atol=1e-4, rtol=1e-4)
