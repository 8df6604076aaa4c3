"""A few thousand hostile inputs, always the same; `test/fuzz` has the hundred thousand."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from fuzz.bags import damaged_file, examine, sound
from fuzz.fuzz import fuzz, quiet
from fuzz.mutate import damaged
from fuzz.robot import Robot
from fuzz.seeds import kinds
from fuzz.targets import TARGETS, call, corpus

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def calm():
    """What is wrong with two thousand messages need not be printed two thousand times."""
    logging.disable(logging.CRITICAL)
    with quiet():
        yield
    logging.disable(logging.NOTSET)


def test_a_robot_takes_every_kind_of_message_before_any_is_damaged():
    for kind in kinds():
        robot = Robot()
        for variant in range(2):
            finding = robot.tell(kind.stream, robot.dress(kind.message(variant)))
            assert finding is None or "random" in kind.name, f"{kind.name}: {finding}"
        if "random" not in kind.name:
            assert robot.used == {"rgb", "depth", "event", "lidar"}, kind.name


def test_a_thousand_hostile_messages_break_no_promise():
    found = fuzz(1200, 2024, network=False)
    assert found["crashes"] == 0, found["crashed"]
    assert found["outcomes"]["accepted"] > 150
    assert found["masks"] > 1000
    assert len(found["kinds"]) > 90  # of 100: fifty kinds, damaged in two ways


def test_hostile_messages_through_the_real_network_give_labels_of_its_classes():
    found = fuzz(60, 7, network=True, life=60)
    assert found["crashes"] == 0, found["crashed"]
    assert found["masks"] > 40


def test_the_same_seed_does_the_same_damage():
    assert fuzz(40, 3, network=False)["kinds"] == fuzz(40, 3, network=False)["kinds"]


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_what_is_valid_and_refuses_the_rest_politely(name):
    seeds = list(corpus(name))
    assert any(call(name, data) for data in seeds)
    for number in range(12 if name == "bag" else 120):
        random = np.random.default_rng([number, len(name)])
        call(name, damaged(seeds[number % len(seeds)], random))
    for number in range(40):
        random = np.random.default_rng([number, 77])
        call(name, random.bytes(int(random.integers(0, 200))))


@pytest.mark.parametrize("form", ["mcap", "zstd", "db3"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_recording_is_read_as_far_as_it_goes_and_says_so(form, cut, tmp_path):
    outcomes = set()
    for number in range(12):
        how, data = damaged_file(sound()[form], np.random.default_rng([number, 5]), cut=cut)
        path = tmp_path / f"drive.{'db3' if form == 'db3' else 'mcap'}"
        path.write_bytes(data)
        outcomes.add(examine(path, cut=how == "cut")[0])
    assert outcomes
    assert not cut or "partly" in outcomes
