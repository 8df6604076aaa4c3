"""What a run begins with: data, network, teacher and optimizer, as the recipe names them."""

from __future__ import annotations

import glob
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustseg_core import datasets, distill
from robustseg_core.datasets import Dataset
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import embeddings
from robustseg_core.learn.recipe import OptimRecipe, Recipe
from robustseg_core.learn.tasks import Part
from robustseg_core.models import checkpoint
from robustseg_core.models.network import Network
from robustseg_core.models.weights import initialize

log = logging.getLogger(__name__)


def splits(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """The two splits, equal in everything that the network is built from; the second may be None.

    Raises:
        RobustsegError: no training data, a path that is not there, splits that overlap or differ.
    """
    data = recipe.data
    if not data.train:
        raise RobustsegError("the recipe names no training data; give data.train=[FOLDER]")
    make = datasets.load(data.kind)
    there, apart = _expand(data.train), _expand(data.val)
    options: dict[str, Any] = {
        "size": data.size,
        "modalities": data.modalities or None,
        "options": data.options,
    }
    train = make(there, "train", **options)
    if not apart:
        return train, None
    if set(there) & set(apart) and not make.known:  # recordings: a path is a split
        raise RobustsegError(
            f"data.val names {sorted(set(there) & set(apart))[0]}, which is trained on; give "
            "other recordings, or none"
        )
    options["modalities"] = train.modalities
    val = make(apart, "val", **options)
    if val.classes != train.classes:
        raise RobustsegError(
            f"data.train has {len(train.classes.names)} classes and data.val "
            f"{len(val.classes.names)}, or others; use splits of one collection"
        )
    if not val.labelled:
        raise RobustsegError("data.val has no labels to judge by; give a labelled split or none")
    return train, val


def network(recipe: Recipe, train: Dataset) -> Network:
    """The student at step 0, with random or imported weights.

    Raises:
        RobustsegError: a plug-in that does not exist, data that no network takes, or weights that
            do not fit.
    """
    wanted = recipe.network
    spec = checkpoint.make_spec(
        {
            "modalities": train.modalities,
            "classes": train.classes.names,
            "palette": train.classes.palette,
            "architecture": wanted.architecture,
            "options": wanted.options,
            "backbone": wanted.backbone,
            "size": train.network_shape(),
            "fusion": wanted.fusion,
            "head_width": wanted.head_width,
            "stem": wanted.stem,
            "norm": wanted.norm,
            "encodings": train.encodings,
            "channels": checkpoint.channel_numbers(train.modalities, train.encodings),
        },
        source="network of this recipe and its data",
    )
    model = checkpoint.untrained(
        spec, seed=recipe.seed, head=wanted.head, drop_path=wanted.drop_path, dropout=wanted.dropout
    )
    if wanted.init:
        log.info("network.init: %s", initialize(wanted.init, model))
    return model


def frozen_teacher(recipe: Recipe, train: Dataset) -> Network | None:
    """The recipe's teacher, if anything in it needs one and it names one.

    Raises:
        RobustsegError: no such checkpoint, or one of other classes or sensors.
    """
    asked = any(distill.load(name).needs_teacher for name in recipe.distill)
    if not (asked and recipe.teacher):
        return None
    teacher = checkpoint.load(recipe.teacher, classes=train.classes.names)
    if teacher.spec.modalities != tuple(train.modalities):
        raise RobustsegError(
            f"the teacher {recipe.teacher} knows {', '.join(teacher.spec.modalities)}, the data "
            f"has {', '.join(train.modalities)}; set data.modalities, or train another teacher"
        )
    return teacher


def cached_embeddings(recipe: Recipe, train: Dataset) -> embeddings.Embeddings | None:
    """The recipe's embeddings, if anything in it needs them and it names any.

    Raises:
        RobustsegError: no such file, or one of other data.
    """
    asked = any(distill.load(name).needs_embeddings for name in recipe.distill)
    if not (asked and recipe.data.embeddings):
        return None
    found = embeddings.load(recipe.data.embeddings)
    found.expect(train)
    return found


def optimizer_of(
    model: nn.Module, optim: OptimRecipe, beside: Mapping[str, Part] = {}
) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed. A group's `scale` is its rate over `optim.lr`.

    Groups of the model come first, then those of each part, in their order.
    """
    named = list(model.named_parameters())
    parts = [(1.0, [p for _, p in named])]
    if optim.head_lr != 1:
        head = [p for name, p in named if name.startswith("head.")]
        rest = [p for name, p in named if not name.startswith("head.")]
        parts = [(1.0, rest), (optim.head_lr, head)]
    for part in beside.values():
        parts.append((part.rate, [p for p in part.module.parameters() if p.requires_grad]))
    groups = [
        {"params": some, "weight_decay": decay, "scale": scale, "lr": scale * optim.lr}
        for scale, parameters in parts
        for decay, some in (
            (optim.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        )
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(0.9, 0.999), eps=1e-8)


def _expand(patterns: Sequence[str]) -> list[Path]:
    """Paths, where `*` stands for all that there are."""
    found: list[Path] = []
    for pattern in patterns:
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not matches:
            raise RobustsegError(f"nothing is called {pattern!r} here; check the path")
        found += [Path(match) for match in matches]
    return found
