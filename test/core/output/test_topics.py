"""An output topic is one entry of a table: recording, node and docs follow from it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.message_types import CAMERA_INFO, CLOUD, IMAGE
from robustseg_core.config import PointsConfig
from robustseg_core.output import messages, topics
from robustseg_core.output.recorder import Recorder
from robustseg_core.output.timeline import Timeline
from robustseg_core.output.topics import Mask
from robustseg_core.types import SECOND
from support import ROOT
from support.label_maps import STAMP, UNSURE, a_map, a_spec, of_a_scan

KNOWN = {
    "/robustseg/label_info": "vision_msgs/msg/LabelInfo",
    "/robustseg/label_mask": "sensor_msgs/msg/Image",
    "/robustseg/confidence": "sensor_msgs/msg/Image",
    "/robustseg/overlay": "sensor_msgs/msg/CompressedImage",
    "/robustseg/label_color": "sensor_msgs/msg/Image",
    "/robustseg/sensor_states": "sensor_msgs/msg/JointState",
    "/robustseg/status": "diagnostic_msgs/msg/DiagnosticArray",
}
"""What readers of recordings rely on; a new output is none of it yet."""


def recording(folder, label_map=None, points=None, heard=None):
    """Topics of what is kept of two masks, and how many messages each has."""
    label_map, spec = label_map or a_map(), a_spec()
    picture = np.zeros((*label_map.ids.shape, 3), np.uint8)
    timeline = Timeline([(0, SECOND)])
    with (
        BagWriter(folder / "mcap") as mcap,
        Recorder(
            folder / "out", spec, bag=mcap, start_ns=0, timeline=timeline, points=points
        ) as recorder,
    ):
        for at_ns in (0, SECOND // 2):
            recorder.add(label_map, picture, at_ns, heard=heard)
    with Bag([folder / "mcap"]) as bag:
        return {topic.name: (topic.type, topic.count, topic.latched) for topic in bag.topics}


@pytest.fixture
def page():
    place = importlib.util.spec_from_file_location("pages", ROOT / "docs/reference/pages.py")
    pages = importlib.util.module_from_spec(place)
    place.loader.exec_module(pages)
    return pages


def test_the_table_of_the_page_is_that_of_the_code(page, monkeypatch):
    before = (ROOT / "docs" / "reference" / "topics.md").read_text()
    assert page.filled(before) == before, "run: python docs/reference/pages.py"
    monkeypatch.setattr(topics, "OUTPUTS", (*topics.OUTPUTS, UNSURE))
    after = page.filled(before)
    assert topics.table() == [row for row in after.splitlines() if row in topics.table()]
    (row,) = set(after.splitlines()) - set(before.splitlines())
    assert "~/unsure" in row and page.filled(after) == after
    monkeypatch.undo()
    assert page.filled(after) == before


def test_a_recording_keeps_what_is_said_of_masks_and_what_the_ids_mean_once(tmp_path):
    kept = recording(tmp_path)
    assert {name: kind for name, (kind, *_) in kept.items()}.items() >= KNOWN.items()
    said = [output for output in topics.OUTPUTS if (output.make and output.sure) or output.names]
    assert {name: (count, latched) for name, (_, count, latched) in kept.items()} == {
        f"/robustseg/{output.name}": (1 if output.latched else 2, output.latched) for output in said
    }


@pytest.mark.parametrize("wanted", [False, True])
def test_a_recording_has_the_masks_camera_and_on_request_its_points(tmp_path, wanted):
    kept = recording(tmp_path, of_a_scan(), PointsConfig(recorded=wanted))
    assert kept["/robustseg/camera_info"] == (CAMERA_INFO, 2, False)
    assert kept.get("/robustseg/points") == ((CLOUD, 2, False) if wanted else None)
    if wanted:
        with Bag([tmp_path / "mcap"]) as bag:
            first = next(iter(bag.messages({"/robustseg/points"})))
        cloud = first.message()
        assert (first.header()[0], cloud.header.frame_id) == (STAMP, "lidar")
        assert (cloud.width, cloud.height) == (2, 1)


def test_what_a_node_said_of_a_mask_is_kept_as_it_was(tmp_path):
    fields = messages.camera_info(of_a_scan()) | {"width": 77}
    raw = typestore().serialize_cdr(messages.to_rosbags(CAMERA_INFO, fields), CAMERA_INFO)
    kept = recording(tmp_path, heard={"camera_info": bytes(raw), "points": b""})
    assert kept["/robustseg/camera_info"] == (CAMERA_INFO, 2, False)
    assert "/robustseg/points" not in kept, "nobody asked for them"
    with Bag([tmp_path / "mcap"]) as bag:
        (first, _) = bag.messages({"/robustseg/camera_info"})
        assert first.message().width == 77


def test_all_that_is_said_of_a_mask_has_its_stamp():
    mask = Mask(of_a_scan(), a_spec())
    for name, output in topics.of_a_mask().items():
        header = output.make(mask)["header"]
        assert header["stamp"] == {"sec": 12, "nanosec": 34}, name
        assert header["frame_id"] == ("lidar" if name == "points" else "camera_optical"), name


def test_an_output_that_is_one_more_entry_is_recorded_and_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(topics, "OUTPUTS", (*topics.OUTPUTS, UNSURE))
    assert recording(tmp_path)["/robustseg/unsure"] == (IMAGE, 2, False)
    assert topics.table()[-1] == "| `~/unsure` | Image mono8 | where nobody knows |"
    assert "unsure" in topics.of_a_mask()


def test_a_picture_is_drawn_only_when_it_is_asked_for(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        topics.draw, "overlay", lambda *_: drawn.append(1) or np.zeros((4, 4, 3), "u1")
    )
    mask = Mask(a_map(), a_spec())
    outputs = topics.of_a_mask()
    outputs["status"].make(mask)
    assert not drawn
    for _ in range(2):
        outputs["overlay"].make(mask)
    assert len(drawn) == 1
