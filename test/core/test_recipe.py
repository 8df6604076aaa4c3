"""Recipes: YAML over YAML, words over all; and by what the best weights are chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from eval_samples import NAMES, InMemory, network, random_samples

from robustseg_core.errors import RobustsegError
from robustseg_core.learn.recipe import ValidationRecipe, load_recipe
from robustseg_core.learn.validate import Picked, score
from robustseg_core.subsets import short, subsets


def test_later_files_lie_over_earlier_ones_and_words_over_all(tmp_path):
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text("system: mine\noptim: {lr: 0.1, batch: 2}\ndistill: {prediction: {weight: 3}}")
    above.write_text("optim: {lr: 0.2}\ndistill: {hpdm: {pairing: same}}")
    recipe = load_recipe([str(below), str(above)], ["optim.batch=7", "seed=5"])
    assert (recipe.optim.lr, recipe.optim.batch, recipe.seed) == (0.2, 7, 5)
    assert recipe.distill == {"prediction": {"weight": 3}, "hpdm": {"pairing": "same"}}
    assert recipe.system == "mine"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("optim: {rate: 1}", "unknown key 'optim.rate'"),
        ("optim: {lr: -1}", "optim.lr is -1"),
        ("distill: {prediction: {weight: -1}}", "distill.prediction.weight is -1"),
        ("validate: {rule: best}", "validate.rule is 'best'"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(text, complaint, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(RobustsegError, match=complaint):
        load_recipe([str(file)])


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("full", ["RDEL"]),
        ("four", ["R", "RD", "EL", "RDEL"]),
        ("mean", [short(subset) for subset in subsets(NAMES)]),
    ],
)
def test_the_rule_says_which_subsets_count(rule, names):
    model = network().train()
    data = InMemory(random_samples(3))
    found = score(model, data, ValidationRecipe(rule=rule), torch.device("cpu"))
    assert found["val"] == pytest.approx(np.mean([found[f"val/{name}"] for name in names]))
    assert model.training


@pytest.mark.parametrize(("count", "picked"), [(0, 9), (3, 3), (50, 9)])
def test_validation_takes_samples_from_all_over_the_split(count, picked):
    part = Picked(InMemory(random_samples(9)), count)
    ids = [part[k].id for k in range(len(part))]
    assert len(ids) == len(set(ids)) == picked
    assert (ids[0], ids[-1]) == ("f0", "f8")
