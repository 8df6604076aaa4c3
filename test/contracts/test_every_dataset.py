"""What every file in `datasets/` promises: ordered, repeatable samples, and words for bad input."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from robustseg_core import datasets
from robustseg_core.datasets import Dataset
from robustseg_core.errors import RobustsegError
from robustseg_core.types import IGNORE, ModelSpec
from support.dataset_trees import MAKERS, Tree

pytestmark = pytest.mark.slow

NAMES = datasets.available()


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> dict[str, Tree]:
    """One tree of every data set; tests read it only."""
    return {name: make(tmp_path_factory.mktemp(name) / name) for name, make in MAKERS.items()}


@pytest.fixture(params=NAMES)
def name(request) -> str:
    assert request.param in MAKERS, (
        f"add a maker for {request.param!r} to test/support/dataset_trees.py"
    )
    return request.param


def load(name: str, tree: Tree, split: str = "train", **options) -> Dataset:
    options.setdefault("options", tree.options)
    return datasets.load(name)(tree.paths, split, **options)


def test_every_split_has_its_samples_in_a_stable_order(name, trees):
    for split, count in trees[name].counts.items():
        first, again = load(name, trees[name], split), load(name, trees[name], split)
        assert len(first) == count
        ids = [sample.id for sample in first]  # also: iteration ends
        assert len(set(ids)) == count
        assert ids == [again[i].id for i in range(count)]
        with pytest.raises(IndexError):
            first[count]


def test_a_sample_is_what_a_network_can_eat(name, trees):
    for split in trees[name].counts:
        data = load(name, trees[name], split)
        for index, sample in enumerate(data):
            assert list(sample.images) == [m for m in data.modalities if m in sample.images]
            assert sample.images
            for image in sample.images.values():
                assert image.dtype == np.float32
                assert image.shape == (3, *trees[name].size)
                assert image.flags.c_contiguous
                assert np.isfinite(image).all()
            if sample.label is not None:
                assert data.labelled
                assert sample.label.dtype == np.uint8
                assert sample.label.shape == trees[name].size
                known = sample.label[sample.label != IGNORE]
                assert known.max() < len(data.classes.names)
            assert data.tags(index) == sample.tags
            assert sample.tags["scene"]


def test_the_same_sample_twice_is_the_same_also_in_another_process(name, trees):
    data = load(name, trees[name])
    there = pickle.loads(pickle.dumps(data))  # noqa: S301 (as a spawned worker gets it)
    for one, other in ((data[0], data[0]), (data[0], there[0])):
        assert (one.id, one.tags) == (other.id, other.tags)
        for modality, image in one.images.items():
            np.testing.assert_array_equal(image, other.images[modality])
        if one.label is not None:
            np.testing.assert_array_equal(one.label, other.label)


def test_samples_come_in_the_size_that_was_asked_for(name, trees):
    if not trees[name].resizes:
        with pytest.raises(RobustsegError, match="size"):
            load(name, trees[name], size=(96, 160))[0]
        return
    for size in ((32, 32), (64, 32), (96, 160)):
        sample = load(name, trees[name], size=size)[0]
        assert {image.shape for image in sample.images.values()} == {(3, *size)}
        assert sample.label is None or sample.label.shape == size


def test_only_the_sensors_that_were_asked_for_are_read_in_that_order(name, trees):
    every = load(name, trees[name]).modalities
    wanted = tuple(reversed(every[-2:]))
    data = load(name, trees[name], modalities=wanted)
    assert data.modalities == wanted
    assert set(data.encodings) == set(wanted)
    assert set(data[0].images) <= set(wanted)


def test_its_encodings_fit_into_a_checkpoint(name, trees):
    data = load(name, trees[name])
    spec = ModelSpec(
        modalities=data.modalities,
        classes=data.classes.names,
        palette=data.classes.palette,
        encodings=data.encodings,
    )
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert set(data.encodings) == set(data.modalities)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"split": "everything"}, "everything"),
        ({"modalities": ("rgb", "sonar")}, "sonar"),
        ({"options": {"frobnicate": 1}}, "frobnicate"),
    ],
)
def test_a_wrong_word_is_named(name, trees, wrong, word):
    with pytest.raises(RobustsegError, match=word):
        load(name, trees[name], **wrong)


def test_all_missing_paths_are_listed(name, tmp_path):
    absent = [tmp_path / "here", tmp_path / "there"]
    with pytest.raises(RobustsegError, match=r"here.*there"):
        datasets.load(name)(absent)


def test_an_empty_folder_is_no_data_set(name, tmp_path: Path):
    with pytest.raises(RobustsegError) as caught:
        datasets.load(name)([tmp_path])
    assert str(tmp_path) in str(caught.value)
