"""A SegFormer of random weights in `transformers`' layout, made in a moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

NAMES = ("road", "tree", "windowpane", "sky, heaven", "car")


def make_segformer(
    folder: Path, names: Sequence[str] = NAMES, *, seed: int = 0, size: tuple[int, int] = (64, 96)
) -> Path:
    """config.json, preprocessor_config.json and model.safetensors; sure of some pixels."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=32,
        id2label=dict(enumerate(names)),
        label2id={name: place for place, name in enumerate(names)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SegformerForSemanticSegmentation(config).eval()
    with torch.no_grad():
        model.decode_head.classifier.weight *= 200
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_resize": True,
                "size": {"height": size[0], "width": size[1]},
                "do_rescale": True,
                "do_normalize": True,
                "image_mean": [0.5, 0.4, 0.3],
                "image_std": [0.2, 0.25, 0.5],
            }
        )
    )
    return folder
