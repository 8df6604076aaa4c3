"""Topics that nobody wrote down, over DDS: `topic: auto`, transports, `inspect --live`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String

from robustseg_core import config
from robustseg_core.errors import RobustsegError
from robustseg_core.robot.config import RobotConfig
from robustseg_ros import graph, optional
from robustseg_ros.arrivals import Ear
from robustseg_ros.inputs import Inputs
from support import drives
from support.live_sensors import QUIET
from support.makers import camera_info, compressed, image

pytestmark = pytest.mark.ros
CAM = "/front/image_raw"


def publisher(world: Any, topic: str, sent: Any) -> optional.Publisher:
    return optional.publisher(world.node, sent.__msgtype__, topic, 10, event_callbacks=QUIET)


def robot(**streams: Any) -> RobotConfig:
    return config.parse(RobotConfig, {"streams": streams})


JPEG = compressed(np.zeros((48, 64, 3), np.uint8))
RAW = image(np.zeros((48, 64, 3), np.uint8), "rgb8")


@contextmanager
def apart(world: Any, name: str) -> Iterator[Node]:
    """A node in a participant of its own: two types on a topic are an error within one."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=world.domain)
    made = Node(name, context=context, enable_rosout=False)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def other(world: Any) -> Iterator[Node]:
    """Who listens."""
    with apart(world, "looker") as node:
        yield node


@pytest.fixture
def successor(world: Any) -> Iterator[Node]:
    """Who speaks after the world's own node."""
    with apart(world, "successor") as node:
        yield node


def test_auto_waits_for_a_driver_and_names_candidates_that_are_as_good(world, other):
    told = robot(rgb={"topic": "auto"}, lidar={"topic": "auto"})
    with pytest.raises(RobustsegError, match="no topic looks like rgb or lidar"):
        graph.settled(other, told, wait_s=0.2)
    kept = [publisher(world, CAM, RAW), publisher(world, f"{CAM}/compressed", JPEG)]
    kept.append(publisher(world, "/front/camera_info", camera_info(48, 64)))
    found = graph.settled(other, told, wait_s=5.0)
    assert found.topics == {"rgb": CAM}
    assert found.streams["rgb"].camera_info == "/front/camera_info"
    changed = told.model_copy(update={"alpha": 0.1})
    assert graph.as_settled(changed, found).topics["rgb"] == CAM
    kept.append(publisher(world, "/left/image_raw", RAW))
    world.until(lambda: other.count_publishers("/left/image_raw"), "the other camera")
    with pytest.raises(RobustsegError) as caught:
        graph.settled(other, told, wait_s=3.0)
    assert str(caught.value) == (
        "streams.rgb.topic is auto, and /front/image_raw and /left/image_raw look like rgb "
        "equally; give the topic that is meant"
    )


def test_an_image_is_heard_on_the_sibling_that_is_there_and_on_no_wrong_type(world, other):
    told = robot(
        rgb={"topic": CAM},
        depth={"topic": "/depth/image_raw", "transport": "compressedDepth"},
    )
    made = drives.Segmenter(told, drives.engine().spec, drives.engine())
    inputs = Inputs(other, made, Ear(lambda: None))
    try:
        heard = {one.name: one for one in inputs._inputs if one.name}
        assert heard["rgb"].topic == CAM and heard["rgb"].subscription is not None
        assert heard["depth"].topic == "/depth/image_raw/compressedDepth"
        kept = [publisher(world, f"{CAM}/compressed", JPEG)]
        world.until(lambda: other.count_publishers(f"{CAM}/compressed"), "discovery")
        inputs.watch()
        assert heard["rgb"].topic == f"{CAM}/compressed"
        assert heard["rgb"].asked == ("sensor_msgs/msg/CompressedImage", False)
        kept.append(publisher(world, CAM, RAW))
        world.until(lambda: other.count_publishers(CAM), "discovery")
        inputs.watch()
        assert heard["rgb"].topic == f"{CAM}/compressed", "what is heard stays"
        kept.append(publisher(world, "/depth/image_raw/compressedDepth", RAW))
        world.until(lambda: other.count_publishers("/depth/image_raw/compressedDepth"), "discovery")
        inputs.watch()
        assert inputs.complaints()["/depth/image_raw/compressedDepth"] == (
            "streams.depth.transport is compressedDepth, and /depth/image_raw/compressedDepth has "
            "sensor_msgs/msg/Image, expected sensor_msgs/msg/CompressedImage; "
            "set streams.depth.transport: auto"
        )
        assert len(kept) == 3
    finally:
        inputs.close()


def test_a_type_that_changes_to_none_of_ours_is_told_and_the_right_one_is_heard_again(world, other):
    """The subscription stays, of the type that was heard, and not of the one that the name says."""
    made = drives.Segmenter(robot(rgb={"topic": CAM}), drives.engine().spec, drives.engine())
    kind = "sensor_msgs/msg/CompressedImage"

    def offered() -> set[str]:
        inputs.watch()
        return {one.topic_type for one in other.get_publishers_info_by_topic(CAM)}

    inputs = Inputs(other, made, Ear(lambda: None))
    try:
        (camera,) = [one for one in inputs._inputs if one.name]
        right = publisher(world, CAM, JPEG)
        world.until(lambda: offered() == {kind}, "the camera")
        heard = camera.subscription
        world.node.destroy_publisher(right.rcl)
        wrong = world.node.create_publisher(String, CAM, 10, event_callbacks=QUIET)
        world.until(lambda: offered() == {"std_msgs/msg/String"}, "another type")
        assert inputs.complaints()[CAM] == (
            f"{CAM} is offered as std_msgs/msg/String, expected sensor_msgs/msg/Image or {kind}; "
            "publish it as that, or give another topic"
        )
        assert camera.asked == (kind, False) and camera.subscription is heard
        world.node.destroy_publisher(wrong)
        right = publisher(world, CAM, JPEG)
        world.until(lambda: offered() == {kind}, "the camera again")
        assert CAM not in inputs.complaints() and camera.subscription is heard
        world.until(right.rcl.get_subscription_count, "a match")
    finally:
        inputs.close()


def test_a_driver_that_was_killed_does_not_keep_its_successor_of_another_type_waiting(
    world, other, successor, monkeypatch
):
    """DDS still offers what the first one said; while that speaks, a second type is not heard."""
    made = drives.Segmenter(robot(rgb={"topic": CAM}), drives.engine().spec, drives.engine())
    raw, jpeg = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"

    def asked() -> tuple[str, set[str]]:
        inputs.watch()
        offers = other.get_publishers_info_by_topic(CAM)
        return camera.asked[0], {one.topic_type for one in offers}

    monkeypatch.setattr("robustseg_ros.inputs.QUIET_NS", 1 << 60)
    inputs = Inputs(other, made, Ear(lambda: None))
    try:
        (camera,) = [one for one in inputs._inputs if one.name]
        first = publisher(world, CAM, JPEG)
        world.until(lambda: asked() == (jpeg, {jpeg}), "the camera")
        second = successor.create_publisher(Image, CAM, 10, event_callbacks=QUIET)
        world.until(lambda: asked()[1] == {jpeg, raw}, "its successor")
        assert asked()[0] == jpeg, "it has not been silent for long"
        monkeypatch.setattr("robustseg_ros.inputs.QUIET_NS", -1)
        assert asked()[0] == raw
        assert asked()[0] == raw, "both were there: nobody came later"
        world.until(second.get_subscription_count, "a match")
        world.node.destroy_publisher(first.rcl)
        world.until(lambda: asked() == (raw, {raw}), "the end of the first")
        first = publisher(world, CAM, JPEG)
        world.until(lambda: asked()[0] == jpeg, "the first again, of a silent second")
    finally:
        inputs.close()


def test_a_sibling_that_speaks_is_heard_instead_of_a_topic_that_is_offered_and_silent(
    world, other, monkeypatch
):
    """A driver that was killed, or hangs, offers its image still; so may a sibling that is dead."""
    made = drives.Segmenter(robot(rgb={"topic": CAM}), drives.engine().spec, drives.engine())
    monkeypatch.setattr("robustseg_ros.inputs.ALONE_NS", -1)
    quiet_ns = 1 << 60

    def watched() -> tuple[str, set[str]]:
        """What is heard, and what is listened to beside it."""
        monkeypatch.setattr("robustseg_ros.inputs.QUIET_NS", quiet_ns)
        inputs.watch()
        return camera.topic, set(camera.probes)

    inputs = Inputs(other, made, Ear(lambda: None))
    executor = SingleThreadedExecutor(context=other.context)
    executor.add_node(other)
    try:
        (camera,) = [one for one in inputs._inputs if one.name]
        jpeg = f"{CAM}/compressed"
        raw, sibling = publisher(world, CAM, RAW), publisher(world, jpeg, JPEG)
        world.until(lambda: other.count_publishers(CAM), "the camera")
        world.until(lambda: other.count_publishers(jpeg), "its sibling")
        assert watched() == (CAM, set()), "it has not been silent for long"
        quiet_ns = -1
        assert watched() == (CAM, {jpeg}), "nobody knows yet whether that lives"
        quiet_ns = 1 << 60
        assert watched() == (CAM, set()), "it speaks again"
        quiet_ns = -1

        def spoken() -> bool:
            sibling.publish(JPEG)
            executor.spin_once(timeout_sec=0.01)
            return watched() == (jpeg, set())

        world.until(spoken, "the sibling")
        assert camera.asked == ("sensor_msgs/msg/CompressedImage", False)
        assert watched() == (jpeg, {CAM}), "the way back is the same"
        assert raw.rcl.get_subscription_count() >= 0
    finally:
        executor.shutdown()
        inputs.close()
    assert not camera.probes


def test_inspect_live_writes_a_robot_yaml_that_the_node_reads(world, tmp_path):
    talkers = {CAM: RAW, f"{CAM}/compressed": JPEG, "/front/camera_info": camera_info(48, 64)}
    talkers |= {"/velodyne_points": drives.message("lidar", 0)}
    speakers = [(publisher(world, topic, sent), sent) for topic, sent in talkers.items()]

    def speak() -> None:
        for speaker, sent in speakers:
            speaker.publish(sent)

    world.node.create_timer(0.1, speak)
    program = world.start("-m", "robustseg_core.cli", "inspect", "--live", "--seconds", "4")
    world.until(lambda: program.process.poll() is not None, "its end")
    assert program.wait() == 0, program.output
    tree = yaml.safe_load(program.output[program.output.index("/**:") :])
    streams = tree["/**"]["ros__parameters"]["streams"]
    assert streams["rgb"]["topic"] == CAM
    assert streams["rgb"]["camera_info"] == "/front/camera_info"
    assert streams["lidar"]["topic"] == "/velodyne_points"
    assert set(streams) == {"rgb", "lidar"}
