"""Pictures that a mask does not bring along: of a broken camera, and of a recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.faults import parse_fault, parse_kill
from robustseg_core.models import checkpoint
from robustseg_core.output import draw
from robustseg_core.recording.doubted import Doubted, Meanwhile, pictures_at
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.pipeline import Deferred
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Bundle, Frame, LabelMap, ModelSpec
from support import drives
from support.makers import image, scenes

SPEC = ModelSpec(
    modalities=("rgb", "depth", "event", "lidar"),
    classes=("a", "b"),
    palette=((1, 2, 3), (4, 5, 6)),
    size=(96, 128),
)
SCENES = scenes(4, seed=5, size=SPEC.size)
START = 1_700_000_000 * SECOND


def a_mask(*used):
    ids = np.zeros(SPEC.size, np.uint8)
    return LabelMap(ids, ids, START, "c", used, {}, {}, {}, {}, Bundle(START, {}))


def test_of_who_is_not_in_the_mask_the_newest_picture_is_shown():
    doubted = Doubted(SPEC)
    for k in range(2):
        doubted.pushed("rgb", image(SCENES[k], "rgb8", START + k), k * 33 * MS, None)
    assert doubted.messages(a_mask("rgb")) == {}
    pictures = doubted.pictures(doubted.messages(a_mask("depth")))
    np.testing.assert_array_equal(pictures["rgb"], SCENES[1])


def test_what_came_long_ago_or_cannot_be_decoded_has_no_picture():
    doubted = Doubted(SPEC)
    doubted.pushed("rgb", image(SCENES[0], "rgb8", START), 0, None)
    doubted.pushed("lidar", object(), 2 * SECOND, None)
    assert doubted.messages(a_mask("depth")) == {}
    torn = image(SCENES[0], "rgb8", START, step=1)
    doubted.pushed("rgb", torn, 2 * SECOND, None)
    doubted.pushed("rgb", None, 2 * SECOND, None)  # it did not even parse
    assert list(doubted.messages(a_mask("depth"))) == ["rgb"]
    assert doubted.pictures({"rgb": torn, "depth": object(), "lidar": torn}) == {}


def test_recorded_pictures_are_found_by_their_stamps(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        for k in range(4):
            stamp = START + k * 33 * MS
            kind = "sensor_msgs/msg/Image"
            writer.write("/image", kind, image(SCENES[k], "rgb8", stamp), stamp + 5 * MS)
    wanted = {START + 33 * MS, START + 99 * MS, START + 7}
    with Bag([tmp_path / "bag"]) as bag:
        found = dict(pictures_at(bag, "/image", "rgb", wanted, SPEC))
        assert dict(pictures_at(bag, "/image", "rgb", (), SPEC)) == {}
        assert dict(pictures_at(bag, "/image", "lidar", wanted, SPEC)) == {}
    assert sorted(found) == [START + 33 * MS, START + 99 * MS]
    np.testing.assert_array_equal(found[START + 99 * MS], SCENES[3])
    frame = Frame("rgb", 0, np.zeros((3, *SPEC.size), np.float32))
    assert draw.seen_by(frame, SPEC).shape == SCENES[3].shape


@pytest.mark.slow
def test_masks_that_a_node_made_get_what_its_sensors_showed(tmp_path):
    """The node of the test is a second replay, whose masks know no pictures."""
    path = drives.write_drive(tmp_path / "drive", 2.0)
    faults = [parse_kill("lidar@0.6"), parse_fault("depth:invalid_depth@1")]
    spec = checkpoint.default_spec(drives.ALL, size=drives.SIZE)
    with Bag([path]) as bag:
        robot = robot_for(bag, None, ["weights=untrained"])
        said = FaultyBag(bag, faults, topics=robot.topics)
        made = list(replay(said, Segmenter(robot, spec, Deferred(spec))))
        heard = [replace(one, bundle=Bundle(one.stamp_ns, {}), scene=None) for one in made[::3]]
        meanwhile = Meanwhile(said, robot, spec)
        told = [meanwhile.at(one) for one in heard]
    for before, (mask, seen) in zip(made[::3], told, strict=True):
        assert mask.bundle.frames.keys() == set(mask.used)
        for name, frame in mask.bundle.frames.items():
            np.testing.assert_array_equal(frame.array, before.bundle.frames[name].array)
        assert not seen.keys() & set(mask.used)
    assert any({"lidar", "depth"} <= set(mask.used) for mask, _ in told)
    assert told[-1][0].used == ("rgb", "event")
    assert set(told[-1][1]) == {"depth"}, "it speaks, and nobody believes it; the LiDAR is silent"
