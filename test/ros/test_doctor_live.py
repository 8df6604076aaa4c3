"""The doctor on a living robot, over real DDS: what the graph shows, and what the messages say."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

from robustseg_core import config
from robustseg_core.doctor.examine import admit
from robustseg_core.doctor.streams import LATE_S
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.transports import VARIABLE
from robustseg_core.types import SECOND
from robustseg_ros import optional
from robustseg_ros.arrivals import Ear
from robustseg_ros.inputs import Inputs
from support import drives, rigs, ros_speaker
from support.makers import camera_info, header, image, transform

pytestmark = pytest.mark.ros
QUIET = PublisherEventCallbacks(use_default_callbacks=False)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LOOSE = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
STREAMS = "{rgb: {topic: /rgb}, depth: {topic: /depth, camera_info: /camera_info}, "
STREAMS += "event: {topic: /event}, lidar: {topic: /lidar}}"
IMAGE = "sensor_msgs/msg/Image"


class Sensors:
    """Publishers in the test's own process, driven by its executor."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._count = 0

    def speak(self, name: str, topic: str, qos: QoSProfile, *, age_s: float = 0.0) -> None:
        """A healthy sensor, whose stamps are `age_s` old, at 20 Hz."""
        first = drives.message(name, 0)
        publisher = optional.publisher(
            self._world.node, first.__msgtype__, topic, qos, event_callbacks=QUIET
        )

        def send() -> None:
            self._count += 1
            sent = drives.message(name, self._count % 40)
            fields = {key: getattr(sent, key) for key in sent.__dataclass_fields__}
            stamp_ns = time.time_ns() - round(age_s * SECOND)
            fields["header"] = header(stamp_ns, sent.header.frame_id)
            publisher.publish(type(sent)(**fields))

        self._world.node.create_timer(0.05, send)

    def tell(self, topic: str, message: Any, qos: QoSProfile) -> None:
        """Something that is said once."""
        publisher = optional.publisher(
            self._world.node, message.__msgtype__, topic, qos, event_callbacks=QUIET
        )
        publisher.publish(message)


def examine(
    world: Any, folder: Path, text: str, words: tuple[str, ...] = (), seconds: int = 5
) -> tuple[int, dict]:
    """(exit code, (stream, check) -> [status, found, fix]) of a doctor that hears the sensors."""
    params = folder / "robot.yaml"
    params.write_text(f"/**:\n  ros__parameters:\n    weights: untrained\n{text}")
    words = words or (
        "-m",
        "robustseg_ros.doctor",
        "--seconds",
        str(seconds),
        "--json",
        "--ros-args",
        "--params-file",
        str(params),
    )
    doctor = world.start(*(word.replace("PARAMS", str(params)) for word in words))
    world.until(lambda: doctor.process.poll() is not None, "the doctor's report")
    output = doctor.output
    assert "Traceback" not in output and "{" in output, output
    tree = json.loads(output[output.index("{\n") : output.rindex("}") + 1])
    return doctor.wait(), {
        (row["stream"], check["check"]): [check["status"], check["found"], check["fix"]]
        for row in tree["rows"]
        for check in row["checks"]
    }


def test_everything_that_can_be_wrong_on_the_wire_is_named_with_its_fix(world, tmp_path):
    sensors = Sensors(world)
    sensors.speak("rgb", "/rgb", LOOSE)
    sensors.speak("rgb", "/rgb", QoSProfile(depth=10))  # a second driver
    world.node.create_publisher(String, "/depth", 10)
    sensors.speak("lidar", "/lidar", LOOSE)
    sensors.tell("/camera_info", camera_info(48, 64, fx=60.0), LATCHED)
    sensors.tell("/tf_static", transform("camera", "lidar"), QoSProfile(depth=1))  # volatile
    strict = "    qos_overrides: {/lidar: {subscription: {reliability: reliable}}}\n"
    code, found = examine(world, tmp_path, f"    streams: {STREAMS}\n{strict}")
    assert code == 1

    status, text, fix = found["event", "topic"]
    assert (status, text) == ("bad", "nobody publishes /event") and "start its driver" in fix
    assert found["event", "used"][0] == "-"

    status, text, fix = found["depth", "type"]
    assert status == "bad" and "found std_msgs/msg/String, expected sensor_msgs/msg/Image" in text
    assert "/rgb" in fix
    assert found["depth", "rate"] == ["bad", found["depth", "rate"][1], "mend the type first"]

    status, text, fix = found["lidar", "qos"]
    assert status == "bad"
    assert text == "/lidar: /test offers BEST_EFFORT reliability, this node asks RELIABLE"
    assert fix == "set qos_overrides./lidar.subscription.reliability: best_effort"
    assert found["lidar", "rate"][2] == "mend the QoS first"

    status, text, fix = found["tf", "qos"]
    assert status == "bad"
    assert "/test offers VOLATILE durability, this node asks TRANSIENT_LOCAL" in text
    assert fix == "set qos_overrides./tf_static.subscription.durability: volatile"

    status, text, fix = found["rgb", "publishers"]
    assert status == "warn" and text.startswith("2 publishers") and "info -v /rgb" in fix
    assert found["rgb", "qos"][0] == "ok"
    assert found["rgb", "calibration"][:2] == ["ok", "64x48"]  # latched, said once, and heard
    assert found["node", "masks"][0] == "ok"
    assert found["node", "output"][0] == "ok" and "does not run" in found["node", "output"][1]


def test_large_images_that_get_lost_are_counted_with_their_cure(world, tmp_path):
    """Small ones come, large ones between them do not: the segment of the default is too small."""
    world.environment[VARIABLE] = "DEFAULT"
    world.start(str(Path(ros_speaker.__file__)), "mixed")
    got: list[Image] = []
    world.node.create_subscription(Image, "/mixed", got.append, LOOSE)
    world.until(lambda: got, "the first image")
    _, found = examine(world, tmp_path, "    streams: {rgb: {topic: /mixed}}\n")
    status, text, fix = found["rgb", "loss"]
    assert status in ("warn", "bad"), found["rgb", "loss"]
    assert "messages lost in 5" in text and "rmw_fastrtps_cpp" in text
    assert "by publication numbers" in text
    assert f"export {VARIABLE}=" in fix


COMMAND = (
    "-c",
    "import sys; from robustseg_core.cli.main import app; "
    "from robustseg_core.cli.terminal import guarded; "
    "sys.exit(guarded(lambda: app(['doctor', '--live', '--params', 'PARAMS', '--json', "
    "'--set', 'streams.lidar.topic=/lidar'])))",
)


def test_stale_stamps_are_told_and_the_masks_go_on(world, tmp_path):
    """Through the command, which starts the ROS part as another program."""
    sensors = Sensors(world)
    sensors.speak("rgb", "/rgb", LOOSE, age_s=30.0)
    sensors.speak("lidar", "/lidar", LOOSE, age_s=30.0)
    sensors.tell("/camera_info", camera_info(48, 64, fx=60.0), LATCHED)
    sensors.tell("/tf_static", transform("camera", "lidar", quaternion=drives.OPTICAL), LATCHED)
    code, found = examine(world, tmp_path, "    streams: {rgb: {topic: /rgb}}\n", COMMAND)
    for name in ("rgb", "lidar"):
        status, text, fix = found[name, "stamps"]
        assert status == "warn" and "old on the robot's clock" in text, found[name, "stamps"]
        assert f"limit {LATE_S:g} s" in text and "chrony" in fix
        assert found[name, "used"][0] == "ok", found
    assert found["lidar", "tf"][0] == found["tf", "qos"][0] == "ok"
    assert found["node", "clock"][0] == "ok" and code == 0


def test_a_camera_info_that_is_said_once_is_heard_whenever_its_driver_starts(world):
    """Subscribed as volatile while nobody was there, the node must ask anew, as latched."""
    robot = config.parse(RobotConfig, {"weights": "untrained", "streams": {"rgb": {"topic": "/a"}}})
    probe, _ = admit(robot)
    inputs = Inputs(world.node, probe.segmenter, Ear(lambda: None))
    Sensors(world).tell("/camera_info", camera_info(48, 64, fx=60.0), LATCHED)

    def latched() -> bool:
        found = world.node.get_subscriptions_info_by_topic("/camera_info")
        return [one.qos_profile.durability for one in found] == [LATCHED.durability]

    world.until(
        lambda: latched() and probe.segmenter.intake.view.camera_of("rgb"), "the calibration"
    )
    inputs.close()


def test_simulated_time_without_a_clock_is_named_and_masks_come(world, tmp_path):
    sensors = Sensors(world)
    sensors.speak("rgb", "/rgb", LOOSE)
    text = "    use_sim_time: true\n    streams: {rgb: {topic: /rgb}}\n"
    _, found = examine(world, tmp_path, text)
    status, text, fix = found["node", "clock"]
    assert status == "warn" and "nobody publishes /clock" in text and "--clock" in fix
    assert found["rgb", "used"][0] == "ok"
    assert found["rgb", "stamps"][0] == "ok"  # no clock, no age


def test_a_clock_that_nobody_follows_is_named(world, tmp_path):
    world.node.create_publisher(Clock, "/clock", 10)
    Sensors(world).speak("rgb", "/rgb", LOOSE)
    _, found = examine(world, tmp_path, "    streams: {rgb: {topic: /rgb}}\n")
    assert "use_sim_time: true" in found["node", "clock"][2]


def test_each_of_two_cameras_is_examined_by_its_name(world, tmp_path):
    """The left one is black; its LiDAR, and what it has to do with the front one, are well."""
    streams, speakers = rigs.streams_of(rigs.CAMERAS[:2], ("top",)), []
    for name in streams:
        first = rigs.message(name, 0, 0)
        topic = rigs.topic_of(name)
        speaker = optional.publisher(
            world.node, first.__msgtype__, topic, LOOSE, event_callbacks=QUIET
        )
        speakers.append((name, speaker))
    sensors, count = Sensors(world), itertools.count()
    for name in rigs.CAMERAS[:2]:
        sensors.tell(f"/{name}/camera_info", rigs.info(name), LATCHED)
    placed = rigs.transforms()
    placed[0].transforms = [row for one in placed for row in one.transforms]
    sensors.tell("/tf_static", placed[0], LATCHED)

    def speak() -> None:
        number = next(count)
        for name, speaker in speakers:
            sent = rigs.message(name, time.time_ns(), number)
            if name == "rgb.left":
                sent = image(np.zeros((rigs.HEIGHT, rigs.WIDTH, 3), np.uint8), "rgb8")
                sent.header = header(time.time_ns(), "cam_left")
            speaker.publish(sent)

    world.node.create_timer(0.1, speak)
    text = "    streams:\n      rgb:\n"
    text += "".join(f"        {n[4:]}: {{topic: {rigs.topic_of(n)}}}\n" for n in streams[:2])
    text += "      lidar: {top: {topic: /top/points}}\n"
    code, found = examine(world, tmp_path, text, seconds=3)
    assert code == 1
    assert found["rgb.front", "used"][0] == "ok", found
    status, told, _ = found["rgb.left", "used"]
    assert status == "bad" and "black" in told, found
    assert found["lidar.top (front)", "used"][0] == "ok", found
    rows = {row for row, _ in found}
    assert "node" in rows or {"node (front)", "node (left)"} <= rows, "as many masks, or not"
    assert found["rgb.left", "calibration"][:2] == ["ok", f"{rigs.WIDTH}x{rigs.HEIGHT}"]
