"""A recording is a data set as it is: extracted behind the scenes, kept or thrown away."""

from __future__ import annotations

import gc
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

from robustseg_core import datasets
from robustseg_core.datasets.bag import BagDataset
from robustseg_core.datasets.shards import Shards
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.extract import Extraction, extract
from support.drives import ALL, SIZE, truths, write_drive

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("bags") / "drive", 1.0, truths(1.0))


def test_a_recording_is_the_data_set_that_its_shards_are(drive, tmp_path):
    bag = BagDataset([drive], size=SIZE)
    extract([drive], tmp_path, Extraction(size=SIZE))
    shards = Shards([tmp_path])
    assert datasets.load("bag") is BagDataset and bag.name == "bag"
    assert len(bag) == len(shards) and bag.labelled and bag.size == bag.shape == SIZE
    assert (bag.modalities, bag.encodings, bag.classes) == (ALL, shards.encodings, shards.classes)
    for k, (ours, theirs) in enumerate(zip(bag, shards, strict=True)):
        assert ours.id == theirs.id and bag.tags(k) == ours.tags == theirs.tags
        assert all(np.array_equal(ours.images[n], a) for n, a in theirs.images.items())
        assert (ours.label is None) == (theirs.label is None)


def test_what_was_extracted_for_a_data_set_goes_with_it(drive, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bag = BagDataset([drive], size=SIZE)
    twin = pickle.loads(pickle.dumps(bag))  # noqa: S301 (our own bytes)
    assert len(list(tmp_path.iterdir())) == 1
    del twin
    gc.collect()
    assert bag[0].images, "a worker's copy does not take the data with it"
    del bag
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_cache_is_extracted_into_once(drive, tmp_path):
    options = {"cache": str(tmp_path / "cache"), "every": 2}
    first = BagDataset([drive], size=SIZE, options=options)
    tar = next((tmp_path / "cache" / "drive").glob("*.tar"))
    inode = tar.stat().st_ino
    second = BagDataset([drive], size=SIZE, options=options)
    assert tar.stat().st_ino == inode and len(first) == len(second)
    with pytest.raises(RobustsegError, match="made with every 2, wanted is 1"):
        BagDataset([drive], size=SIZE, options={**options, "every": 1})


def test_a_recording_without_labels_is_a_data_set_without_labels(tmp_path):
    bag = BagDataset([write_drive(tmp_path / "plain", 0.6)], size=SIZE, modalities=["depth"])
    assert not bag.labelled and bag.modalities == ("depth",)
    assert all(sample.label is None and set(sample.images) == {"depth"} for sample in bag)
    assert bag.notices == ["no set has a label: there is no label topic"]
    with pytest.raises(RobustsegError, match="no topic of labels"):
        BagDataset([tmp_path / "plain"], size=SIZE, options={"labels": "required"})


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("nowhere", {}, "no such folder or file: .*nowhere"),
        (".", {}, "holds no recording"),
        (".", {"everry": 2}, "unknown key 'options of bag.everry'; did you mean 'every'"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, name, options, said):
    with pytest.raises(RobustsegError, match=said):
        BagDataset([tmp_path / Path(name)], options=options)


def test_real_recordings_without_labels_are_material(realdata):
    collage = BagDataset([realdata / "collage_four_sensors"], size=SIZE, options={"complete": True})
    assert len(collage) == 49 and not collage.labelled
    assert all(set(sample.images) == set(ALL) and sample.label is None for sample in collage)
    color = BagDataset([realdata / "rgbd_60frames"], size=SIZE, modalities=["rgb"])
    assert 58 <= len(color) <= 60 and set(color[0].images) == {"rgb"}
