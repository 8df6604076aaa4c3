"""A CLIP of random weights in `transformers`' layout, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WIDTH = 8
"""Of its embeddings."""
SIDE = 32
"""Of its pictures."""
LONGEST = 20
"""Tokens of its texts."""


def make_clip(folder: Path, seed: int = 0) -> Path:
    """config.json, model.safetensors, and a tokenizer that knows single bytes alone."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir()
    bytes_ = [*range(33, 127), *range(161, 173), *range(174, 256)]  # as byte-level BPE writes them
    others = [256 + n for n in range(256 - len(bytes_))]
    letters = [chr(code) for code in (*bytes_, *others)]
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": WIDTH,
    }
    text = {
        "vocab_size": len(tokens),
        "max_position_embeddings": LONGEST,
        "bos_token_id": len(tokens) - 2,
        "eos_token_id": len(tokens) - 1,
    }
    config = CLIPConfig(
        text_config=tower | text,
        vision_config=tower | {"image_size": SIDE, "patch_size": 16},
        projection_dim=WIDTH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CLIPModel(config).save_pretrained(folder)
    return folder
