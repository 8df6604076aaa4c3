"""What a run begins with: data, network, teacher and optimizer, as the recipe names them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustseg_core import datasets, distill
from robustseg_core.datasets import Dataset
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.matching import expect_encodings
from robustseg_core.learn import embeddings
from robustseg_core.learn.recipe import OptimRecipe, Recipe
from robustseg_core.learn.shipped import expand
from robustseg_core.models import checkpoint
from robustseg_core.models.network import Network, PackedNetwork
from robustseg_core.models.weights import Beginning, begin_as, beginning, initialize
from robustseg_core.types import ModelSpec


def splits(recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """The two splits, equal in everything that the network is built from; the second may be None.

    Raises:
        RobustsegError: no training data, a path that is not there, splits that overlap or differ.
    """
    data = recipe.data
    if not data.train:
        raise RobustsegError("the recipe names no training data; give data.train=[FOLDER]")
    make = datasets.load(data.kind)
    there, apart = expand(data.train), expand(data.val)
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


@dataclass(slots=True)
class Networks:
    """The networks of a run, at step 0."""

    student: Network
    teacher: Network | None
    robust: Network | None
    """Beside the teacher, where a selection of the two teaches."""
    began: Beginning | None
    """What the student began with; None: random weights."""


def networks(recipe: Recipe, train: Dataset, known: Mapping[str, Network] = {}) -> Networks:
    """Student, and whom it learns from.

    Args:
        recipe: of one stage.
        train: what it learns from.
        known: name -> network, for names in the recipe that are no files yet.

    Raises:
        RobustsegError: a plug-in that does not exist, data that no network takes, weights that do
            not fit, or networks that do not fit together.
    """
    student = network(recipe, train)
    began = _begin(recipe, student, known)
    teacher = robust = None
    asked = any(distill.load(name)(how).asks == "teacher" for name, how in recipe.distill.items())
    if asked and recipe.teacher:
        teacher = _fitting(recipe.teacher, train, known, what="teacher")
    if recipe.select is not None and recipe.select.robust:
        robust = _fitting(recipe.select.robust, train, known, what="robust model")
    if recipe.feedback is not None:
        if recipe.feedback.equal_start and teacher is not None:
            took = begin_as(teacher, student, source=recipe.teacher)
            path = Path(recipe.teacher)
            began = None if recipe.teacher in known else beginning(path, took)
        teacher = _learning_teacher(recipe, student, teacher)
    if teacher is not None and robust is not None:
        _expect_selectable(recipe, teacher, robust)
    if teacher is not None:
        _expect_comparable(recipe, student, teacher)
    return Networks(student, teacher, robust, began)


def cached_embeddings(recipe: Recipe, train: Dataset) -> embeddings.Embeddings | None:
    """The recipe's embeddings, if anything in it needs them and it names any.

    Raises:
        RobustsegError: no such file, or one of other data.
    """
    if not (recipe.needs_embeddings and recipe.data.embeddings):
        return None
    found = embeddings.load(recipe.data.embeddings)
    found.expect(train)
    return found


def spec_of(recipe: Recipe, train: Dataset) -> ModelSpec:
    """The student's spec.

    Raises:
        RobustsegError: there is no such network.
    """
    wanted = recipe.network
    return checkpoint.make_spec(
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


def network(recipe: Recipe, train: Dataset) -> Network:
    """The student with random weights.

    Raises:
        RobustsegError: a plug-in that does not exist, or data that no network takes.
    """
    wanted = recipe.network
    return checkpoint.untrained(
        spec_of(recipe, train),
        seed=recipe.seed,
        head=wanted.head,
        drop_path=wanted.drop_path,
        dropout=wanted.dropout,
    )


def _begin(recipe: Recipe, student: Network, known: Mapping[str, Network]) -> Beginning | None:
    """Begin the student with the weights that the recipe names; what they were.

    Raises:
        RobustsegError: they cannot be had, or do not fit.
    """
    init = recipe.network.init
    if init in known:
        begin_as(known[init], student, source=init)
        return None
    return initialize(init, student) if init else None


def _fitting(path: str, train: Dataset, known: Mapping[str, Network], *, what: str) -> Network:
    """A network of the classes and sensors of the data.

    Raises:
        RobustsegError: there is no such checkpoint, or one of other classes, sensors or encodings.
    """
    classes = train.classes.names
    if path in known:
        found = known[path]
        checkpoint.expect_classes(found.spec, classes, source=path)
    else:
        found = checkpoint.load(path, classes=classes)
    if found.spec.modalities != tuple(train.modalities):
        raise RobustsegError(
            f"the {what} {path} knows {', '.join(found.spec.modalities)}, the data "
            f"has {', '.join(train.modalities)}; set data.modalities, or train another {what}"
        )
    try:
        expect_encodings(found.spec, train, train.modalities)
    except RobustsegError as error:
        raise RobustsegError(f"the {what} {path} was trained on other images: {error}") from None
    return found


def _learning_teacher(recipe: Recipe, student: Network, teacher: Network | None) -> Network:
    """The teacher that learns back; `student` has begun.

    Raises:
        RobustsegError: it cannot hold single sensors back, or is missing.
    """
    how = recipe.feedback
    assert how is not None
    if how.equal_start:
        teacher = copy.deepcopy(student)
    if teacher is None:
        raise RobustsegError(
            "feedback.equal_start is false and no teacher is named; give teacher=CHECKPOINT"
        )
    if how.freeze_dominant and not isinstance(teacher, PackedNetwork):
        raise RobustsegError(
            f"feedback.freeze_dominant needs a teacher that encodes each sensor by itself, and "
            f"{teacher.spec.architecture!r} does not; set feedback.freeze_dominant=false"
        )
    return teacher


def _expect_comparable(recipe: Recipe, student: Network, teacher: Network) -> None:
    """Nothing, if student and teacher are as wide where a distiller compares their channels.

    Raises:
        RobustsegError: they are not.
    """
    strict = [name for name in recipe.distill if distill.load(name).needs_equal_widths]
    ours, theirs = (", ".join(map(str, found.widths)) for found in (student, teacher))
    if strict and ours != theirs:
        raise RobustsegError(
            f"distill.{strict[0]} compares channels, and the stages of the student have {ours}, "
            f"those of the teacher {recipe.teacher} {theirs}; set network.backbone to the "
            f"teacher's, {teacher.spec.backbone!r}, or leave {', '.join(strict)} out"
        )


def _expect_selectable(recipe: Recipe, teacher: Network, robust: Network) -> None:
    """Nothing, if the stages of both networks are as wide, so that a selection can mix them.

    Raises:
        RobustsegError: they are not.
    """
    assert recipe.select is not None
    one, other = (", ".join(map(str, found.widths)) for found in (teacher, robust))
    if one != other:
        raise RobustsegError(
            f"the stages of the teacher {recipe.teacher} have {one} channels, those of the robust "
            f"model {recipe.select.robust} {other}, so nothing can be selected of the two; train "
            "both with the same network.backbone"
        )


def optimizer_of(
    model: nn.Module, optim: OptimRecipe, others: Mapping[str, tuple[nn.Module, float]] = {}
) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed. A group's `scale` is its rate over `optim.lr`.

    A parameter's steps depend on no other's, so one optimizer is as good as one for each module.

    Args:
        model: the student, called `student` in its groups' `part`.
        optim: of the recipe.
        others: part -> what else learns, and its rate over `optim.lr`.
    """
    named = list(model.named_parameters())
    parts = [("student", 1.0, [p for _, p in named])]
    if optim.head_lr != 1:
        head = [p for name, p in named if name.startswith("head.")]
        rest = [p for name, p in named if not name.startswith("head.")]
        parts = [("student", 1.0, rest), ("student", optim.head_lr, head)]
    for part, (module, scale) in others.items():
        parts.append((part, scale, [p for p in module.parameters() if p.requires_grad]))
    groups = [
        {
            "params": some,
            "weight_decay": decay,
            "scale": scale,
            "lr": scale * optim.lr,
            "part": part,
        }
        for part, scale, parameters in parts
        for decay, some in (
            (optim.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        )
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(0.9, 0.999), eps=1e-8)
