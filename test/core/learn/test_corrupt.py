"""Now and then a sensor of a sample is broken; the others stay whole."""

from __future__ import annotations

import numpy as np
import pytest

from robustseg_core import faults
from robustseg_core.config import parse
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.corrupt import CorruptConfig, available, corrupt, possible
from robustseg_core.learn.recipe import known_recipes, load_recipe, systems
from robustseg_core.learn.shipped import HELD_OUT, held_out
from robustseg_core.modalities import ranked
from robustseg_core.modalities._corruptions import ANY

pytestmark = pytest.mark.slow

SENSORS = ranked()


def scene() -> dict[str, np.ndarray]:
    """Four sensors, each with something to see in most pixels."""
    rng = np.random.default_rng(7)
    images = {}
    for name in SENSORS:
        images[name] = rng.random((3, 32, 48), np.float32) * (rng.random((32, 48)) < 0.8)
        images[name].flags.writeable = False
    return images


def test_nothing_is_corrupted_unless_asked() -> None:
    images = scene()
    made, done = corrupt(images, np.random.default_rng(0), CorruptConfig())
    assert done == {} and all(made[name] is images[name] for name in SENSORS)


def test_one_sensor_of_several_stays_whole_and_each_is_hit_as_often_as_asked() -> None:
    images = scene()
    rng = np.random.default_rng(0)
    always = [corrupt(images, rng, CorruptConfig(p=1))[1] for _ in range(30)]
    assert all(len(done) == 3 for done in always)
    config = CorruptConfig(p=0.25, faults=("pixel_drop",))
    hits = [corrupt(images, rng, config)[1] for _ in range(500)]
    assert sum(map(len, hits)) / 2000 == pytest.approx(0.25, abs=0.03)
    assert {damage.fault for done in hits for damage in done.values()} == {"pixel_drop"}
    alone, done = corrupt({"rgb": scene()["rgb"]}, rng, CorruptConfig(p=1, faults=("black",)))
    assert done["rgb"].fault == "black" and alone["rgb"].max() < -1.7  # normalized black


def test_faults_are_named_for_those_that_changed_and_only_those_change() -> None:
    images = scene()
    for seed in range(20):
        config = CorruptConfig(p=0.5, faults=("garbage", "rings"), strength=(0.5, 1))
        made, done = corrupt(images, np.random.default_rng(seed), config)
        assert {name for name in SENSORS if made[name] is not images[name]} == set(done)
        assert all(done[name].fault in available(name) for name in done)


def test_a_sensor_without_a_plug_in_can_be_corrupted_too() -> None:
    image = np.random.default_rng(0).random((3, 16, 16), np.float32)
    made, done = corrupt({"nir": image}, np.random.default_rng(1), CorruptConfig(p=1))
    assert done["nir"].fault in ANY and not np.array_equal(made["nir"], image)


def test_faults_can_be_named_in_one_word_of_a_command_line() -> None:
    assert parse(CorruptConfig, {"faults": "black,holes"}).faults == ("black", "holes")


def test_corruption_follows_the_encoding_of_the_data() -> None:
    plain = {"rgb": {"mean": (0, 0, 0), "std": (1, 1, 1)}}
    image = np.full((3, 8, 8), 0.5, np.float32)
    config = CorruptConfig(p=1, faults=("saturated",))
    made, _ = corrupt({"rgb": image}, np.random.default_rng(0), config, encodings=plain)
    assert made["rgb"].mean() == pytest.approx(254 / 255, abs=0.01)


def test_pictures_of_collections_have_no_metres_and_counts_to_change() -> None:
    foreign = {"representation": "hha"}
    assert "depth_unit" in possible("depth", {"near_m": 1.0})
    assert not {"depth_unit", "garbage"} & set(possible("depth", foreign))
    assert {"holes", "pixel_drop", "invalid_depth"} <= set(possible("depth", foreign))
    encodings = {name: {"representation": "picture"} for name in SENSORS[1:]}
    images = scene()
    rng, config = np.random.default_rng(0), CorruptConfig(p=1)
    for _ in range(50):
        _, done = corrupt(images, rng, config, encodings=encodings)
        assert not {"jitter", "event_flood", "hot_pixels"} & {
            damage.fault for damage in done.values()
        }


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"faults": ["balck"]}, "no corruption called 'balck'; did you mean 'black'"),
        ({"faults": "balck"}, "no corruption called 'balck'; did you mean 'black'"),
        ({"strength": (0.5, 2)}, "0.5 to 2 is no range within 0 to 1"),
        ({"p": 2}, "p is 2"),
    ],
)
def test_a_bad_option_says_the_way_out(tree: dict, text: str) -> None:
    with pytest.raises(RobustsegError, match=text):
        parse(CorruptConfig, tree)


def test_held_out_faults_are_of_every_sensor_and_of_every_family() -> None:
    unseen = held_out() & set(available())
    assert 0.2 < len(unseen) / len(available()) < 0.33
    assert all(unseen & set(available(name)) for name in SENSORS)
    of_drives = held_out() - unseen
    assert of_drives <= set(faults.available())
    assert len({faults.load(name).__module__ for name in of_drives}) >= 4


def test_a_recipe_that_trains_with_what_is_held_out_is_refused() -> None:
    for name in sorted(held_out()):
        with pytest.raises(RobustsegError, match=f"{name}.*held out of training"):
            load_recipe(["ours"], [f"corrupt.faults=[blurred,{name}]"])
    assert load_recipe(["ours"], ["corrupt.faults=[blurred]"]).corrupt.faults == ("blurred",)
    assert HELD_OUT not in known_recipes()


@pytest.mark.parametrize("name", systems())
def test_no_recipe_trains_with_a_fault_that_is_held_out(name: str) -> None:
    recipe = load_recipe([name])
    for part in (recipe, *recipe.in_stages().values()):
        faults = part.corrupt.faults
        assert faults == "all" or not held_out() & set(faults)


def test_all_faults_are_all_but_those_that_are_held_out() -> None:
    images, rng = scene(), np.random.default_rng(0)
    config = CorruptConfig(p=0.5, everywhere=0.5)
    seen = {d.fault for _ in range(300) for d in corrupt(images, rng, config)[1].values()}
    assert seen == set(available()) - held_out()
    named = CorruptConfig(p=1, faults=("rings",))
    assert corrupt({"lidar": images["lidar"]}, rng, named)[1]["lidar"].fault == "rings"


def test_all_sensors_break_together_as_often_as_asked() -> None:
    images, rng = scene(), np.random.default_rng(0)
    config = CorruptConfig(everywhere=0.3, told=1)
    found = [done for _ in range(300) if (done := corrupt(images, rng, config)[1])]
    assert len(found) / 300 == pytest.approx(0.3, abs=0.08)
    assert all(len(done) == 4 and len({d.quality for d in done.values()}) == 1 for done in found)
    alike = [len({d.fault for d in done.values()}) == 1 for done in found]
    assert np.mean(alike) == pytest.approx(0.5, abs=0.15)
