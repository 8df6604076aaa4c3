"""What an import writes down about a data set is what its reader says when it reads it."""

from __future__ import annotations

import pytest

from robustseg_core import datasets
from robustseg_core.datasets._collection import Collection
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.matching import expect_encodings
from robustseg_core.learn.official import SYSTEMS
from robustseg_core.types import DataSpec, ModelSpec
from support.dataset_trees import EVENT_SIZE, MAKERS

pytestmark = pytest.mark.slow

PUBLIC = [name for name in datasets.available() if issubclass(datasets.load(name), Collection)]


@pytest.mark.parametrize("kind", PUBLIC)
def test_encodings_are_known_before_a_file_is_read(kind, tmp_path):
    collection = datasets.load(kind)
    MAKERS[kind](tmp_path)
    own = {"event_size": list(EVENT_SIZE)} if kind == "muses" else {}
    for options in ({}, *(system.read_as.get(kind, {}) for system in SYSTEMS.values())):
        given = own | options
        read = collection([tmp_path], "val", size=(32, 64), options=given)
        told = collection.encodings_with(given, read.modalities)
        assert told == read.encodings and tuple(told) == read.modalities
        spec = ModelSpec(
            modalities=read.modalities,
            classes=read.classes.names,
            palette=read.classes.palette,
            encodings=told,
            data=DataSpec(kind=kind, options=given),
        )
        expect_encodings(spec, read, read.modalities)
        assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
        assert set(read[0].images) <= set(read.modalities)


def test_a_data_spec_is_bounded():
    with pytest.raises(RobustsegError, match="options have more than 10000 characters"):
        DataSpec(kind="deliver", options={"x": "y" * 20_000})
    with pytest.raises(RobustsegError, match="missing"):
        DataSpec(kind="deliver", missing="mean")
