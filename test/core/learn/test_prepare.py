"""What a run begins with: any recipe that is one trains, or says in a sentence why it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from robustseg_core.config import parse
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.loader import Loader
from robustseg_core.learn.prepare import networks, optimizer_of, splits
from robustseg_core.learn.recipe import Recipe, load_recipe
from robustseg_core.learn.tasks import Task
from support.junk import JUNK
from support.learn_data import make_shards, words

pytestmark = pytest.mark.slow

COSTLY = {"batch", "workers", "backbone", "head_width", "train", "val", "cache"}
"""Keys whose possible values take long, or would read all that lies around."""
WORDS = ["all", "bernoulli", "folded", "four", "fragile", "gated", "mean", "per_modality", "rgb"]
NUMBERS = st.sampled_from([0, 1, 2, 3, 32, 50, 64]) | st.floats(0, 2)


def like(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same kind as one that a recipe has."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, (int, float)):
        return NUMBERS
    if isinstance(value, str):
        return st.sampled_from(WORDS)
    if isinstance(value, list) and value:
        return st.lists(st.one_of(map(like, value)), min_size=1, max_size=4)
    return st.lists(st.sampled_from(WORDS) | NUMBERS, max_size=4)


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Recipe:
    folder = tmp_path_factory.mktemp("shards")
    train, val = make_shards(folder / "a", 4), make_shards(folder / "b", 2, seed=1)
    return load_recipe(["dropout"], words(train, val, optim__batch=2))


def begin(recipe: Recipe) -> None:
    """The first step, as `fit` makes it, without Fabric."""
    train, _ = splits(recipe)
    made = networks(recipe, train)
    student = made.student
    task = Task(
        recipe, train.modalities, teacher=made.teacher, robust=made.robust, student=student.spec
    )
    optimizer_of(student, recipe.optim)
    loader = Loader(
        train,
        batch=recipe.optim.batch,
        augment=recipe.augment,
        corrupt=recipe.corrupt,
        seed=recipe.seed,
    )
    rng = torch.Generator()
    task.terms(student.train(), next(loader.batches()), rng, rng)


def test_the_usual_recipe_begins(usual):
    begin(usual)


@settings(max_examples=100)
@given(data=st.data())
def test_any_value_anywhere_begins_or_is_a_sentence(usual, data):
    tree = usual.model_dump(mode="json", by_alias=True)
    for _ in range(data.draw(st.integers(1, 2))):
        branch = tree
        key = data.draw(st.sampled_from(sorted(branch)))
        while isinstance(branch[key], dict) and branch[key]:
            branch = branch[key]
            key = data.draw(st.sampled_from(sorted(set(branch) - COSTLY)))
        branch[key] = data.draw(st.one_of(like(branch[key]), like(branch[key]), JUNK))
    try:
        begin(parse(Recipe, tree))
        event("begun")
    except RobustsegError as error:
        event("refused")
        assert "pydantic" not in str(error) and "\n" not in str(error)
