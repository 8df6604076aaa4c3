"""Pictures that a mask does not bring along: of a broken camera, and of a recording."""

from __future__ import annotations

import numpy as np

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.output import draw
from robustseg_core.recording.doubted import Doubted, pictures_at
from robustseg_core.types import MS, SECOND, Bundle, Frame, LabelMap, ModelSpec
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
