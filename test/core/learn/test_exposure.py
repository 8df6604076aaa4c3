"""What training has seen of a fault, by the recipe that the weights name."""

from __future__ import annotations

import pytest

from robustseg_core import faults
from robustseg_core.engines import artifact
from robustseg_core.faults._base import Graded
from robustseg_core.learn.exposure import exposure_of
from robustseg_core.learn.shipped import held_out
from robustseg_core.models import checkpoint

NAMES = ["misaligned", "loosening", "dew", "dust", "drift", "mirrored", "fouling"]


@pytest.fixture(scope="module")
def shipped():
    return artifact.load(checkpoint.SHIPPED).spec


def test_the_shipped_student_has_seen_what_its_recipe_draws(shipped):
    found = exposure_of(shipped, NAMES)
    assert set(found["misaligned"].values()) == {"trained"} == set(found["loosening"].values())
    assert set(found["dew"].values()) == set(found["mirrored"].values()) == {"held out"}
    assert set(found["drift"].values()) == {"never"}, "it shows in no single picture"
    assert set(found["fouling"]) == {"rgb", "depth", "event", "lidar"}
    assert set(found["dust"]) == {"rgb", "depth", "lidar"}, "not of events"


def test_a_recipe_without_damage_and_weights_without_a_recipe_are_told_apart(shipped):
    plain = shipped.model_copy(update={"provenance": "robustseg 0.1.0, anyseg, seed 1, on x"})
    assert set(exposure_of(plain, ["dust"])["dust"].values()) == {"never"}
    foreign = shipped.model_copy(update={"provenance": "somebody's"})
    assert set(exposure_of(foreign, ["dust"])["dust"].values()) == {"unknown"}
    assert set(exposure_of(foreign, ["dew"])["dew"].values()) == {"held out"}
    random = shipped.model_copy(update={"trained": False, "provenance": "random weights"})
    assert set(exposure_of(random, ["dust"])["dust"].values()) == {"never"}


def test_every_held_out_fault_of_a_drive_is_said_to_be(shipped):
    names = [n for n in faults.available() if issubclass(faults.load(n), Graded)]
    found = exposure_of(shipped, names)
    said = {n for n, words in found.items() if set(words.values()) == {"held out"}}
    assert said == held_out() & set(names)
