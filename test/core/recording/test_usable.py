"""What `inspect` calls usable, `run` uses: over all encodings that there are, and some more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robustseg_core import modalities
from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import EVENT_ARRAYS, EVENT_PACKET, FORMER_EVENT_PACKET
from robustseg_core.codecs import events
from robustseg_core.codecs.image import FORMATS
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.guess import Candidate, modality_of
from robustseg_core.recording.robot import robot_for
from robustseg_core.recording.survey import Survey, survey
from robustseg_core.types import MS, SECOND, Rejection
from support import makers

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOUD = "sensor_msgs/msg/PointCloud2"
WORDS = np.arange(64, dtype=np.uint16)


def messages() -> dict[str, tuple[str, Any]]:
    """topic -> (type, message), one of each kind."""
    found: dict[str, tuple[str, Any]] = {}
    for encoding in (*FORMATS, "16UC1", "32FC1", "mono16", "unheard_of", ""):
        form = FORMATS.get(encoding)
        channels = form.channels if form else 1
        kind = np.float32 if encoding == "32FC1" else np.uint16 if "16" in encoding else np.uint8
        pixels = np.ones((48, 64, channels), kind)
        message = makers.image(pixels, encoding, step=64 * channels * pixels.itemsize)
        found[f"/image/a{len(found)}"] = IMAGE, message
    for encoding in (*events.available(), "evt2.1", "evt4", "trigger", ""):
        for width in (640, 4000, 0):
            message = makers.events(WORDS, encoding=encoding, width=width)
            found[f"/events/a{len(found)}"] = EVENT_PACKET, message
    found["/events/former"] = FORMER_EVENT_PACKET, makers.events(WORDS, encoding="mono")
    for kind in EVENT_ARRAYS:
        package = kind.split("/")[0]
        message = makers.event_array([(1, 2, True, 3)], package=package)
        found[f"/events/{package}"] = kind, message
    found["/points/events"] = CLOUD, makers.event_cloud([(1, 2, True, 3)])
    found["/points/xyz"] = CLOUD, makers.xyz(np.ones((9, 3)))
    flat = np.zeros(4, [("x", "<f4"), ("y", "<f4"), ("intensity", "<f4")])
    found["/points/flat"] = CLOUD, makers.cloud(flat)
    for form in ("png", "jpeg"):
        found[f"/small/{form}"] = (
            COMPRESSED,
            makers.compressed(np.ones((48, 64, 3), np.uint8), form=form),
        )
    broken = makers.compressed(np.ones((48, 64, 3), np.uint8))
    broken.data = broken.data[:40]
    found["/small/broken"] = COMPRESSED, broken
    return found


def looked_at(path: Any, said: dict[str, tuple[str, Any]]) -> Survey:
    with BagWriter(path) as writer:
        for name, (kind, message) in said.items():
            for k in range(2):
                writer.write(name, kind, message, SECOND + k * MS)
    with Bag(path) as bag:
        return survey(bag)


@pytest.mark.slow
def test_inspect_calls_usable_what_the_modality_takes_and_nothing_else(tmp_path):
    said = messages()
    found = {topic.topic: topic for topic in looked_at(tmp_path / "all", said).topics}
    assert found.keys() == said.keys()
    usable = set()
    with Bag(tmp_path / "all") as bag:
        for recorded in bag.messages():
            topic = found[recorded.topic]
            name = modality_of(Candidate(topic.topic, topic.type, 1, topic.encoding))
            try:
                modalities.load(name)().decode(recorded.message(), SECOND)
                usable.add(recorded.topic)
                assert topic.problem == "", f"{topic.encoding}: inspect refuses it"
            except Rejection as rejection:
                assert topic.problem == str(rejection), f"{topic.encoding}: inspect takes it"
    assert {topic.modality or topic.alternative_for for topic in found.values()} == {
        None, "rgb", "depth", "event", "lidar"
    }  # fmt: skip
    assert all(found[name].modality is None for name in set(said) - usable)
    assert len(usable) > len(FORMATS)


def test_run_says_which_topic_it_does_not_use_and_why(tmp_path):
    said = {
        "/events": (EVENT_PACKET, makers.events(WORDS, encoding="evt4")),
        "/camera/image_raw": (IMAGE, makers.image(np.ones((48, 64, 3), np.uint8), "rgb8")),
    }
    looked_at(tmp_path / "two", said)
    with Bag(tmp_path / "two") as bag:
        assert list(robot_for(bag, None, []).streams) == ["rgb"]
        (notice,) = bag.notices
    assert notice.startswith("/events is not used: unsupported event encoding 'evt4'; supported: ")
    looked_at(tmp_path / "one", {"/events": said["/events"]})
    with Bag(tmp_path / "one") as bag, pytest.raises(RobustsegError, match="encoding 'evt4'"):
        robot_for(bag, None, [])
