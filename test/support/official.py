"""Published checkpoints as their authors save them, filled by the formula; names, no code."""

from __future__ import annotations

from functools import reduce

import torch

from support import golden_networks

Tensors = dict[str, torch.Tensor]


def official(name: str, others: int = 3) -> Tensors:
    """A B0 network of 25 classes, `m_segformer` or `cmnext`, for rgb and so many others."""
    state = golden_networks.official(name, "b0", others)
    return {key: torch.from_numpy(value) for key, value in state.items()}


def nvlabs(tensors: Tensors) -> Tensors:
    """M-SegFormer's tensors as NVlabs' SegFormer on mmseg names them."""
    return {
        name.replace("encoder.", "backbone.").replace("decoder.", "decode_head."): tensor
        for name, tensor in tensors.items()
        if not name.startswith("classifier.")
    }


def as_transformers(tensors: Tensors) -> Tensors:
    """The well-known renaming of NVlabs' names, written backwards from files on the hub."""
    table: dict[str, str] = {}
    for s in "1234":
        hub, e = str(int(s) - 1), "segformer.encoder."
        table |= {
            f"backbone.patch_embed{s}.norm": f"{e}patch_embeddings.{hub}.layer_norm",
            f"backbone.patch_embed{s}": f"{e}patch_embeddings.{hub}",
            f"backbone.block{s}": f"{e}block.{hub}",
            f"backbone.norm{s}": f"{e}layer_norm.{hub}",
            f"linear_c{s}": f"linear_c.{hub}",
        }
    table |= {
        "linear_fuse.conv": "linear_fuse",
        "linear_fuse.bn": "batch_norm",
        "linear_pred": "classifier",
        ".norm1": ".layer_norm_1",
        ".norm2": ".layer_norm_2",
        "attn.norm": "attention.self.layer_norm",
        "attn.sr": "attention.self.sr",
        "attn.q": "attention.self.query",
        "attn.proj": "attention.output.dense",
        "mlp.fc": "mlp.dense",
    }
    out = {}
    for theirs, tensor in tensors.items():
        name = reduce(lambda text, pair: text.replace(*pair), table.items(), theirs)
        if "attn.kv" in name:
            key, value = tensor.chunk(2)
            out[name.replace("attn.kv", "attention.self.key")] = key.contiguous()
            out[name.replace("attn.kv", "attention.self.value")] = value.contiguous()
        elif "conv_seg" not in name:
            out[name] = tensor
    return out
