"""A training of several parts, one after the other: what each begins with, and whether that fits.

RMMSS trains a robust model and then a student of it; a recipe says so under `stages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from robustseg_core import config
from robustseg_core.config import parse
from robustseg_core.learn.prepare import cached_embeddings, networks, splits
from robustseg_core.learn.recipe import STAGE, Recipe
from robustseg_core.learn.tasks import Task
from robustseg_core.models.network import Network

BEST = "best.safetensors"
"""The checkpoint in the folder of a run."""


def placed(recipe: Recipe, out: Path) -> Recipe:
    """A stage's recipe, with the files of the stages that it names.

    Args:
        recipe: as `Recipe.in_stages` has it.
        out: folder of the whole run.
    """
    words = [
        f"{key}={config.scalar(str(out / path.removeprefix(STAGE) / BEST))}"
        for key, path in recipe.weights().items()
        if path.startswith(STAGE)
    ]
    tree = recipe.model_dump(by_alias=True, exclude_unset=True)
    return parse(Recipe, config.override(tree, words))


def expect_fitting(stages: Mapping[str, Recipe]) -> None:
    """Nothing, if each stage can begin: it is said before the first one does, not after it.

    Args:
        stages: as `Recipe.in_stages` has them.

    Raises:
        RobustsegError: data, networks and recipe of one of them do not fit together.
    """
    known: dict[str, Network] = {}
    for name, stage in stages.items():
        train, _ = splits(stage)
        made = networks(stage, train, known)
        Task(
            stage,
            train.modalities,
            teacher=made.teacher,
            robust=made.robust,
            labelled=train.labelled,
            student=made.student.spec,
            embeddings=cached_embeddings(stage, train),
        )
        known[STAGE + name] = made.student
