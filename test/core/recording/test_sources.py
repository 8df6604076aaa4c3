"""Which topics a robot means: transports and `topic: auto`, of what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustseg_core import config
from robustseg_core.bag import Bag, BagWriter
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.guess import Candidate
from robustseg_core.recording.robot import robot_for
from robustseg_core.recording.sources import guessed, transported, undecided
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.topics import camera_info_topic, choose, spellings
from support.makers import camera_info, compressed, image

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOUD, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
CAM, DEPTH = "/cam/image_raw", "/cam/depth/image_raw"


def robot(**streams: Any) -> RobotConfig:
    return config.parse(RobotConfig, {"streams": streams})


# -- transports ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "topic", "transport", "offered", "chosen"),
    [
        ("rgb", CAM, "auto", {CAM: [IMAGE], f"{CAM}/compressed": [COMPRESSED]}, CAM),
        ("rgb", CAM, "auto", {f"{CAM}/compressed": [COMPRESSED]}, f"{CAM}/compressed"),
        ("rgb", f"{CAM}/compressed", "auto", {CAM: [IMAGE]}, CAM),
        ("rgb", CAM, "auto", {}, CAM),
        ("rgb", CAM, "auto", {CAM: ["std_msgs/msg/String"]}, CAM),
        ("rgb", CAM, "auto", {CAM: [COMPRESSED]}, CAM),  # a driver that names it so
        ("rgb", CAM, "auto", {f"{CAM}/compressedDepth": [COMPRESSED]}, CAM),
        ("rgb", CAM, "compressed", {CAM: [IMAGE]}, f"{CAM}/compressed"),
        ("rgb", f"{CAM}/compressed", "compressed", {}, f"{CAM}/compressed"),
        ("rgb", CAM, "raw", {f"{CAM}/compressed": [COMPRESSED]}, CAM),
        (
            "depth",
            DEPTH,
            "auto",
            {f"{DEPTH}/compressed": [COMPRESSED], f"{DEPTH}/compressedDepth": [COMPRESSED]},
            f"{DEPTH}/compressedDepth",
        ),
        ("depth", DEPTH, "compressedDepth", {}, f"{DEPTH}/compressedDepth"),
        ("lidar", "/points", "auto", {"/points/compressed": [COMPRESSED]}, "/points"),
    ],
)
def test_an_image_is_found_on_its_topic_or_on_a_sibling(name, topic, transport, offered, chosen):
    assert choose(spellings(name, topic, transport), offered) == chosen
    found, notices = transported(robot(**{name: {"topic": topic, "transport": transport}}), offered)
    assert found.streams[name].topic == chosen and notices == []


def test_siblings_share_their_camera_info():
    for name in spellings("depth", DEPTH, "auto"):
        assert camera_info_topic(name) == "/cam/depth/camera_info"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ({"rgb": {"topic": CAM, "transport": "compressedDepth"}}, "of rgb, give auto, raw or comp"),
        ({"lidar": {"topic": "/p", "transport": "raw"}}, "lidar is no image; leave it out"),
        (
            {"rgb": {"topic": f"{CAM}/compressed", "transport": "raw"}},
            "transport is raw, and streams.rgb.topic '/cam/image_raw/compressed' is named for comp",
        ),
        ({"rgb": {"topic": CAM, "transport": "theora"}}, "theora"),
    ],
)
def test_a_transport_that_cannot_be_is_an_error_with_the_way_out(stream, words):
    with pytest.raises(RobustsegError) as caught:
        robot(**stream)
    assert words in str(caught.value)


def test_a_transport_that_is_not_what_the_topic_has_is_one_sentence():
    told = robot(rgb={"topic": CAM, "transport": "compressed"})
    with pytest.raises(RobustsegError) as caught:
        transported(told, {f"{CAM}/compressed": [IMAGE]})
    assert str(caught.value) == (
        "streams.rgb.transport is compressed, and /cam/image_raw/compressed has "
        "sensor_msgs/msg/Image, expected sensor_msgs/msg/CompressedImage; "
        "set streams.rgb.transport: auto"
    )


def test_a_topic_of_two_types_is_told_and_used():
    found, notices = transported(robot(rgb={"topic": CAM}), {CAM: [IMAGE, COMPRESSED]})
    assert found.streams["rgb"].topic == CAM
    assert notices == [
        f"{CAM} changes its type: {COMPRESSED}, {IMAGE}; publish one type on a topic"
    ]


# -- topic: auto --------------------------------------------------------------------------------


def offered(**topics: str) -> list[Candidate]:
    kinds = {"image": IMAGE, "jpeg": COMPRESSED, "cloud": CLOUD, "info": INFO}
    return [
        Candidate(topic, kinds[kind], 1)
        for kind, names in topics.items()
        for topic in names.split()
    ]


def test_auto_is_what_inspect_would_guess_with_its_camera_info():
    told = robot(rgb={"topic": "auto"}, depth={"topic": "auto"}, lidar={"topic": "/mine"})
    found, notices = guessed(
        told,
        offered(
            image=f"{CAM} {DEPTH}",
            jpeg=f"{CAM}/compressed",
            cloud="/mine /velodyne_points",
            info="/cam/camera_info",
        ),
    )
    assert found.topics == {"rgb": CAM, "depth": DEPTH, "lidar": "/mine"}
    assert found.streams["rgb"].camera_info == "/cam/camera_info" and notices == []


def test_who_is_not_there_is_left_out_and_told():
    told = robot(rgb={"topic": "auto"}, lidar={"topic": "auto"})
    found, notices = guessed(told, offered(image=CAM))
    assert found.topics == {"rgb": CAM}
    assert notices == ["streams.lidar.topic is auto, and no topic looks like lidar; it is left out"]
    with pytest.raises(RobustsegError, match=r"looks like rgb or lidar \(there are: /points_of_vi"):
        guessed(told, [Candidate("/points_of_view", "std_msgs/msg/String", 1)])


def test_candidates_that_are_as_good_are_named():
    told = robot(rgb={"topic": "auto"}, depth={"topic": "auto"})
    several = offered(
        image=f"/front/image_raw /left/image_raw {DEPTH}", jpeg="/front/image_raw/compressed"
    )
    assert undecided(told, several) == {"rgb": ["/front/image_raw", "/left/image_raw"]}
    _, notices = guessed(told, several)
    assert notices == [
        "streams.rgb.topic is auto: /front/image_raw is taken, it could be /left/image_raw as well"
    ]
    assert undecided(robot(rgb={"topic": CAM}), several) == {}


# -- a recording --------------------------------------------------------------------------------


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """A camera that is recorded compressed, and depth raw."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    with BagWriter(tmp_path / "bag") as writer:
        for k in range(3):
            jpeg = compressed(pixels, stamp_ns=10**9 + k)
            writer.write(f"{CAM}/compressed", jpeg.__msgtype__, jpeg, 10**9 + k)
            metres = image(np.ones((48, 64), np.uint16), "16UC1", 10**9 + k)
            writer.write(DEPTH, metres.__msgtype__, metres, 10**9 + k)
            info = camera_info(48, 64)
            writer.write("/cam/camera_info", info.__msgtype__, info, 10**9 + k)
    return tmp_path / "bag"


def parameters(folder: Path, text: str) -> Path:
    path = folder / "robot.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    streams:\n{text}")
    return path


def test_a_recording_is_searched_for_the_sibling(bag, tmp_path):
    params = parameters(tmp_path, f"      rgb: {{topic: {CAM}}}\n")
    with Bag(bag) as opened:
        assert robot_for(opened, params, ()).topics == {"rgb": f"{CAM}/compressed"}
        assert opened.notices == []
        with pytest.raises(RobustsegError, match="transport is raw, and"):
            robot_for(
                opened, params, [f"streams.rgb.topic={CAM}/compressed", "streams.rgb.transport=raw"]
            )


def test_a_recording_is_guessed_for_auto(bag, tmp_path):
    rows = "".join(f"      {name}: {{topic: auto}}\n" for name in ("rgb", "depth", "lidar"))
    with Bag(bag) as opened:
        found = robot_for(opened, parameters(tmp_path, rows), ())
        assert found.topics == {"rgb": f"{CAM}/compressed", "depth": DEPTH}
        assert found.streams["rgb"].camera_info == "/cam/camera_info"
        assert [n for n in opened.notices if "lidar" in n and "left out" in n]
