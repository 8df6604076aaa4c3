"""The Croissant card of simulated drives: true, ours to replace, and read by `mlcroissant`."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from robustseg_core.sim.card import NAME, write_card
from robustseg_core.sim.produce import Recipe, _plain

RECIPES = {
    "a.mcap": Recipe(5, 0.2, ("clear",), "tiny"),
    "b.mcap": Recipe(6, 30.0, ("night", "rain"), views=5, rig="random", streets="varied"),
}

LATER_NS = 4_000_000_000 * 1_000_000_000  # after any drive of today


def make(folder, name, recipe):
    (folder / name).write_bytes(name.encode() * 9)
    (folder / name).with_suffix(".json").write_text(json.dumps({"recipe": _plain(recipe)}))


@pytest.fixture
def folder(tmp_path):
    for name, recipe in RECIPES.items():
        make(tmp_path, name, recipe)
    assert write_card(tmp_path)
    return tmp_path


def listed(folder):
    return [entry["name"] for entry in json.loads((folder / NAME).read_text())["distribution"]]


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


def test_it_tells_of_every_call_s_drives_and_of_no_other_recording(folder):
    make(folder, "c.mcap", RECIPES["a.mcap"])
    (folder / "theirs.mcap").write_bytes(b"")
    (folder / "notes.mcap").write_bytes(b"")
    (folder / "notes.json").write_text('{"recipe": "two eggs"}')
    assert write_card(folder)
    assert listed(folder) == ["a.mcap", "b.mcap", "c.mcap"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("conditions", odd) for odd in ("clear", {"rain": 1}, 5, ["clear", 5])),
        *(("seed", odd) for odd in ("5", [1], True, None)),
        *(("seconds", odd) for odd in (float("nan"), 10**400, "3", None)),
        *(("views", odd) for odd in ("many", None, 1.5)),
        *(("preset", 3), ("rig", None), ("streets", ["plain"])),
    ],
)
def test_an_account_of_other_kinds_of_values_is_no_drive_s(folder, field, value):
    make(folder, "odd.mcap", RECIPES["a.mcap"])
    recipe = {**_plain(RECIPES["a.mcap"]), field: value}
    (folder / "odd.json").write_text(json.dumps({"recipe": recipe}))
    (folder / NAME).unlink()
    assert write_card(folder)
    assert listed(folder) == ["a.mcap", "b.mcap"]


def test_what_is_no_file_is_no_drive(folder):
    for name in ("folder.mcap", "nowhere.mcap", "pipe.mcap", "told_by_a_pipe.mcap"):
        make(folder, name, RECIPES["a.mcap"])
        (folder / name).unlink()
    (folder / "folder.mcap").mkdir()
    (folder / "nowhere.mcap").symlink_to(folder / "gone")
    os.mkfifo(folder / "pipe.mcap")
    (folder / "told_by_a_pipe.mcap").write_bytes(b"")
    (folder / "told_by_a_pipe.json").unlink()
    os.mkfifo(folder / "told_by_a_pipe.json")
    (folder / NAME).unlink()
    assert write_card(folder)
    assert listed(folder) == ["a.mcap", "b.mcap"]


@pytest.mark.parametrize("target", ["gone", "card.json"])
def test_a_link_in_its_place_stays(folder, caplog, target):
    (folder / NAME).rename(folder / "card.json")
    (folder / NAME).symlink_to(folder / target)
    before = (folder / "card.json").read_bytes()
    (folder / "b.mcap").unlink()
    assert not write_card(folder)
    assert "is not ours" in caplog.text
    assert (folder / NAME).is_symlink() and (folder / "card.json").read_bytes() == before
    assert not (folder / "gone").exists()


def test_a_pipe_in_its_place_stays(folder, caplog):
    (folder / NAME).unlink()
    os.mkfifo(folder / NAME)
    assert not write_card(folder)
    assert "is not ours" in caplog.text and (folder / NAME).is_fifo()


def test_it_is_made_anew_only_for_another_drive(folder):
    os.utime(folder / NAME, ns=(LATER_NS, LATER_NS))
    assert write_card(folder)
    assert (folder / NAME).stat().st_mtime_ns == LATER_NS
    os.utime(folder / "b.mcap", ns=(LATER_NS + 1_000_000_000,) * 2)
    assert write_card(folder)
    assert (folder / NAME).stat().st_mtime_ns != LATER_NS


def test_a_drive_that_is_gone_is_told_of_no_longer(folder):
    (folder / "a.mcap").unlink()
    assert write_card(folder)
    assert listed(folder) == ["b.mcap"]


def test_anothers_card_stays(folder, caplog):
    (folder / NAME).write_text('{"creator": {"name": "me"}}')
    assert not write_card(folder)
    assert "is not ours" in caplog.text
    assert (folder / NAME).read_text() == '{"creator": {"name": "me"}}'


def test_a_folder_without_drives_gets_none(tmp_path):
    assert not write_card(tmp_path)
    assert not (tmp_path / NAME).exists()


@pytest.mark.filterwarnings("ignore")  # of its own dependencies
def test_mlcroissant_reads_it(folder):
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    dataset = mlcroissant.Dataset(jsonld=folder / NAME)
    records = list(dataset.records("drives"))
    assert [record["drives/seed"] for record in records] == [5, 6]
