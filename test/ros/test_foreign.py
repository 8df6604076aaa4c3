"""Somebody's node as a black box: started, played to over DDS, and judged by its masks."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from support import ROOT

pytest.importorskip("rclpy")

from robustseg_core.bag import BagWriter
from robustseg_core.errors import RobustsegError
from robustseg_ros.foreign import command_of, mapping
from support import makers

pytestmark = pytest.mark.ros

SPEAKER = """
import sys
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

def answer(image):
    mask = Image(header=image.header, height=4, width=4, encoding="mono8", step=4)
    mask.data = bytes([3] * 16)
    publisher.publish(mask)

rclpy.init()
node = rclpy.create_node("theirs")
publisher = node.create_publisher(Image, "/labels", 10)
node.create_subscription(Image, "/their/image", answer, qos_profile_sensor_data)
try:
    rclpy.spin(node)
except KeyboardInterrupt:
    pass
"""
"""A node that calls all of every picture the class 3."""


def test_a_command_is_words_and_a_launch_file_needs_ros2(tmp_path, monkeypatch):
    assert command_of(f"{sys.executable} 'my node.py' --x") == [
        sys.executable,
        "my node.py",
        "--x",
    ]
    launch = tmp_path / "their.launch.py"
    with pytest.raises(RobustsegError, match="there is no"):
        command_of(str(launch))
    launch.write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RobustsegError, match=r"no `ros2 launch` here.*give a command"):
        command_of(str(launch))
    ros2 = tmp_path / "ros2"
    ros2.write_text("#!/bin/sh\n")
    ros2.chmod(0o755)
    assert command_of(f"{launch} gpu:=0") == ["ros2", "launch", str(launch), "gpu:=0"]


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "is empty"), ("'", "quote it"), ("no-such-program", "no program called")],
)
def test_a_command_that_cannot_be_run_is_refused(text, why):
    with pytest.raises(RobustsegError, match=why):
        command_of(text)


def test_topics_are_named_by_modality_or_by_their_own_name():
    known = ["/camera/image", "/camera/info"]
    told = mapping("mask:=/labels, rgb:=/image,/camera/info:=/info", {"rgb": known[0]}, known)
    assert told == {"mask": "/labels", known[0]: "/image", known[1]: "/info"}
    for text, why in (
        ("rgb:=/image", "says no mask"),
        ("mask=/labels", "expected NAME:=/topic"),
        ("mask:=/labels,lidar:=/x", "has no 'lidar'"),
    ):
        with pytest.raises(RobustsegError, match=why):
            mapping(text, {"rgb": known[0]}, known)


def test_a_node_is_started_for_each_fault_and_its_masks_stop_with_its_camera(tmp_path, world):
    drive = tmp_path / "drive"
    labelled(drive, seconds=5.0)
    theirs = tmp_path / "theirs.py"
    theirs.write_text(SPEAKER)
    words = [str(drive), "--node", f"{sys.executable} {theirs}", "--out", str(tmp_path / "out")]
    topics = "mask:=/labels,rgb:=/their/image"
    done = subprocess.run(
        [sys.executable, "-m", "robustseg_core.cli", "robustness", *words, "--topics", topics],
        cwd=ROOT,
        env=world.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "node.json").read_text())
    rows = {row["sensor"]: row for row in found["cases"]}
    assert set(rows) == {"rgb", "depth"}
    assert found["clean"]["masks"] > 5 and found["clean"]["miou"] > 0.5
    assert rows["rgb"]["masks"] <= 1 and rows["rgb"]["miou"] < 0.1, "one may be on its way"
    assert rows["rgb"]["longest_gap_s"] > 1.0
    assert rows["depth"]["masks"] > 5
    assert not any(row["died"] for row in rows.values())


def example():
    path = ROOT / "docs/examples/camera_only_node.py"
    spec = importlib.util.spec_from_file_location("camera_only_node", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_sets_need_all_and_stop_when_one_dies():
    sets = []
    ours = example().Sets(2, lambda *sent: sets.append(sent))

    def message(ms):
        stamp = SimpleNamespace(sec=5, nanosec=ms * 1_000_000)
        return SimpleNamespace(header=SimpleNamespace(stamp=stamp))

    for k in range(10):
        ours.add(0, message(100 * k))
        if k < 5:
            ours.add(1, message(100 * k + 20))
    assert len(sets) == 5
    assert all(a.header.stamp.nanosec + 20_000_000 == b.header.stamp.nanosec for a, b in sets)


def test_the_examples_pictures_are_rgb_packed_or_not():
    colors = example().colors
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    for message in (
        makers.image(red, "rgb8"),
        makers.image(red[..., ::-1], "bgr8"),
        makers.compressed(red[..., ::-1], form="png"),
    ):
        assert np.array_equal(colors(message), red)
    assert colors(makers.image(red[..., :1], "mono8")) is None


def labelled(path, *, seconds):
    """A camera, depth and labels of the class 3, ten a second."""
    with BagWriter(path) as bag:
        for k in range(round(10 * seconds)):
            at_ns = 1_700_000_000_000_000_000 + k * 100_000_000
            rng = np.random.default_rng(k)
            picture = rng.integers(0, 255, (24, 32, 3), np.uint8)
            metres = rng.uniform(2, 9, (24, 32)).astype(np.float32)
            for topic, message in (
                ("/camera/image_raw", makers.image(picture, "rgb8", at_ns)),
                ("/camera/depth/image_raw", makers.image(metres, "32FC1", at_ns)),
                ("/camera/label", makers.image(np.full((24, 32, 1), 3, np.uint8), "mono8", at_ns)),
            ):
                bag.write(topic, "sensor_msgs/msg/Image", message, at_ns)
