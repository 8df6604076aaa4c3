"""The Croissant card of simulated drives: true, ours to replace, and read by `mlcroissant`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import pytest

from robustseg_core.sim.card import NAME, write_card
from robustseg_core.sim.produce import Recipe

RECIPES = {
    "a.mcap": Recipe(5, 0.2, ("clear",), "tiny"),
    "b.mcap": Recipe(6, 30.0, ("night", "rain"), views=5, rig="random", streets="varied"),
}


@pytest.fixture
def folder(tmp_path):
    for name in RECIPES:
        (tmp_path / name).write_bytes(name.encode() * 9)
    assert write_card(tmp_path, {name: asdict(recipe) for name, recipe in RECIPES.items()})
    return tmp_path


def test_it_tells_each_file_and_its_recipe(folder):
    card = json.loads((folder / NAME).read_text())
    for entry in card["distribution"]:
        data = (folder / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    (records,) = card["recordSet"]
    first, second = records["data"]
    assert first["drives/file"] == "a.mcap" and first["drives/views"] == 0
    assert second["drives/conditions"] == "night,rain" and second["drives/seed"] == 6
    fields = {field["@id"] for field in records["field"]}
    assert fields == set(first) == set(second)


def test_ours_is_made_anew_and_anothers_stays(folder, caplog):
    assert write_card(folder, {"a.mcap": asdict(RECIPES["a.mcap"])})
    assert len(json.loads((folder / NAME).read_text())["distribution"]) == 1
    (folder / NAME).write_text('{"creator": {"name": "me"}}')
    assert not write_card(folder, {"a.mcap": asdict(RECIPES["a.mcap"])})
    assert "is not ours" in caplog.text
    assert (folder / NAME).read_text() == '{"creator": {"name": "me"}}'


@pytest.mark.filterwarnings("ignore")  # of its own dependencies
def test_mlcroissant_reads_it(folder):
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    dataset = mlcroissant.Dataset(jsonld=folder / NAME)
    records = list(dataset.records("drives"))
    assert [record["drives/seed"] for record in records] == [5, 6]
