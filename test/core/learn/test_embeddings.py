"""The cache of embeddings: whose it is, how it reaches a lesson, and what is learned from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from robustseg_core import datasets
from robustseg_core.datasets import Dataset
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import embeddings, journal
from robustseg_core.learn.fit import fit
from robustseg_core.learn.loader import Loader
from robustseg_core.learn.recipe import load_recipe
from robustseg_core.models import checkpoint
from support.learn_data import make_embeddings, make_shards, words


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("shards")
    return make_shards(folder / "a", 12), make_shards(folder / "b", 4, seed=1)


def of(shards: Path, **options: object) -> Dataset:
    return datasets.load("shards")([shards], **options)


@pytest.fixture(scope="module")
def cache(data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cache") / "cache.safetensors"
    embeddings.save(path, make_embeddings(of(data[0])))
    return path


@pytest.mark.parametrize("captions", [True, False])
def test_what_is_written_is_read(captions, data, tmp_path) -> None:
    made, path = make_embeddings(of(data[0]), captions=captions), tmp_path / "cache.safetensors"
    embeddings.save(path, made)
    again = embeddings.load(path)
    assert again.ids == made.ids
    assert np.array_equal(again.images, made.images)
    assert np.array_equal(again.class_text, made.class_text)
    assert (again.text is None) == (not captions)
    again.expect(of(data[0]))


def test_a_cache_of_other_data_is_a_sentence(data, cache) -> None:
    made = embeddings.load(cache)
    with pytest.raises(RobustsegError, match=r"of other data .12 samples. .* .4 samples."):
        made.expect(of(data[1]))
    with pytest.raises(RobustsegError, match=r"of the sensors rgb, depth, .* has rgb, depth; make"):
        made.expect(of(data[0], modalities=["rgb", "depth"]))
    with pytest.raises(RobustsegError, match=r"of the classes road, wall, and .* road, wall, sky;"):
        replace(made, classes=("road", "wall")).expect(of(data[0]))


def changed(cache: Path, path: Path, tensors: dict, **metadata: str | None) -> Path:
    with safe_open(cache, framework="np") as file:
        told = {**file.metadata(), **metadata}
    told = {name: text for name, text in told.items() if text is not None}
    save_file({**load_file(cache), **tensors}, path, metadata=told)
    return path


@pytest.mark.parametrize(
    ("tensors", "metadata", "text"),
    [
        ({}, {"format": "else"}, "is of format 'else'"),
        ({}, {"format": None}, "is of format 'unknown'"),
        ({}, {"ids": "3"}, "is damaged"),
        ({}, {"ids": '["a"]'}, "has images of 12x4x6 float32, expected 1x4x6"),
        ({}, {"fingerprint": None}, "is damaged"),
        ({"class_text": np.zeros((3, 5), np.float32)}, {}, "class_text of 3x5 .* expected 3x6"),
        ({"text": np.zeros((12, 5), np.float32)}, {}, "text of 12x5 .* expected 12x6"),
        ({"images": np.zeros((12, 4), np.float32)}, {}, "images of 2 axes"),
        ({"images": np.zeros((12, 4, 6), np.float64)}, {}, "float64, expected 12x4x6 float32"),
        ({"text": np.full((12, 6), np.nan, np.float32)}, {}, "text with values not finite"),
    ],
    ids=str,
)
def test_a_cache_that_no_command_made_is_a_sentence(tensors, metadata, text, cache, tmp_path):
    with pytest.raises(RobustsegError, match=f"{text}.*robustseg embed"):
        embeddings.load(changed(cache, tmp_path / "other.safetensors", tensors, **metadata))


def test_a_file_that_is_no_cache_is_a_sentence(tmp_path) -> None:
    with pytest.raises(RobustsegError, match="is no file; make it with `robustseg embed"):
        embeddings.load(tmp_path / "none")
    (tmp_path / "text").write_text("no")
    with pytest.raises(RobustsegError, match="is damaged or no safetensors"):
        embeddings.load(tmp_path / "text")


def test_each_sample_of_a_batch_has_its_own_whatever_the_order(data, cache) -> None:
    made, dataset = embeddings.load(cache), of(data[0])
    loader = Loader(dataset, batch=4, embeddings=made, cache=True)
    batch = next(loader.batches())
    rows = [key.index for key in loader.keys(0)]
    assert np.array_equal(batch.embeddings, made.images[rows])
    assert np.array_equal(batch.text, made.text[rows])
    without = next(Loader(dataset, batch=4).batches())
    assert (without.embeddings, without.text) == (None, None)
    some = replace(made, ids=("else", *made.ids[1:]))
    with pytest.raises(RobustsegError, match=r"has no embeddings of 'a/000000'; make it again"):
        next(Loader(dataset, batch=12, embeddings=some).batches())


def told(data: tuple[Path, Path], **more: object) -> list[str]:
    return words(*data, **{"optim__steps": 6, "save_every": 2} | more)


def losses(out: Path, name: str = "loss") -> list[float]:
    return [float(row[name]) for row in journal.read(out / "log.csv")]


class Interrupted(Exception):
    """What ends a run early."""


def stop(done: int, steps: int, numbers: dict[str, float]) -> None:
    if done == 3:
        raise Interrupted


@pytest.mark.slow
def test_a_run_learns_a_projector_and_goes_on_with_it_and_no_checkpoint_has_it(
    data, cache, tmp_path
) -> None:
    recipe = load_recipe(["any2seg"], told(data, data__embeddings=str(cache)))
    whole = fit(recipe, tmp_path / "whole", device="cpu")
    assert (whole["terms"], whole["notices"]) == (["ce", "lscd"], [])
    assert min(losses(tmp_path / "whole", "lscd")) > 0
    with pytest.raises(Interrupted):
        fit(recipe, tmp_path / "run", device="cpu", on_progress=stop)
    fit(recipe, tmp_path / "run", device="cpu")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    for name in ("state", "best"):
        ours, theirs = (
            dict(_tensors(tmp_path / out / f"{name}.safetensors")) for out in ("run", "whole")
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert any("lscd" in key for key in theirs) == (name == "state")
    model = checkpoint.load(tmp_path / "whole" / "best.safetensors")
    plain = checkpoint.untrained(model.spec, head=model.head_form)
    assert model.spec.fusion == "mff"
    assert list(model.state_dict()) == list(plain.state_dict())  # ... so the graph is the same


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name)


@pytest.mark.slow
def test_without_a_cache_the_term_is_zero_and_the_run_says_so_once(
    data, cache, tmp_path, caplog
) -> None:
    result = fit(load_recipe(["any2seg"], told(data)), tmp_path / "run", device="cpu")
    assert losses(tmp_path / "run", "lscd") == [0] * 6
    assert len(result["notices"]) == 1
    assert "lscd has no embeddings, so its term is 0" in result["notices"][0]
    assert [r.getMessage() for r in caplog.records].count(result["notices"][0]) == 1
    with pytest.raises(RobustsegError, match=r"another recipe .data.embeddings was ''"):
        fit(load_recipe(["any2seg"], told(data, data__embeddings=str(cache))), tmp_path / "run")
    plain = make_shards(tmp_path / "plain", 4, labelled=False)
    with pytest.raises(RobustsegError, match="no labels and nothing in the recipe teaches"):
        fit(load_recipe(["any2seg"], told((plain, data[1]))), tmp_path / "none", device="cpu")


@pytest.mark.slow
def test_a_cache_of_other_data_stops_a_run_before_it_begins(data, cache, tmp_path) -> None:
    recipe = load_recipe(["any2seg"], told((data[1], data[0]), data__embeddings=str(cache)))
    with pytest.raises(RobustsegError, match="of other data"):
        fit(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.slow
def test_a_selection_and_relations_of_single_sensors_do_not_meet(data, tmp_path) -> None:
    settings = told(data, distill={"prediction": {}, "lscd": {}}, select={})
    with pytest.raises(RobustsegError, match=r"select and distill.lscd do not go together"):
        fit(load_recipe(["any2seg"], settings), tmp_path / "run", device="cpu")
