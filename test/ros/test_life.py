"""The node's life: transitions, parameters, services, diagnostics, and how it ends."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from support import ROOT

pytest.importorskip("rclpy")

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from robustseg_core import config
from robustseg_core.bag.typestore import EVENT_PACKET
from robustseg_core.doctor import Check, Status
from robustseg_core.doctor.examine import admit
from robustseg_core.models import checkpoint
from robustseg_core.output import messages
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import Bundle, Health, LabelMap, State
from robustseg_ros import optional, typesupport
from robustseg_ros.arrivals import Ear
from robustseg_ros.doctor import DoctorNode
from robustseg_ros.inputs import Inputs
from robustseg_ros.publishers import Publishers
from robustseg_ros.running import run
from support import drives
from support.live_ear import Ear as Listener
from support.live_sensors import Sensors, parameter_file, write_bag

pytestmark = pytest.mark.ros
ROBOT = ROOT / "config" / "robot.yaml"
TOPIC = "/camera/color/image_raw/compressed"
QUIET = PublisherEventCallbacks(use_default_callbacks=False)
"""rclpy's own complaint uses a deprecated call, and warnings are errors here."""
NAMES = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def change(world: Any, name: str) -> bool:
    request = ChangeState.Request(transition=Transition(id=NAMES[name]))
    return world.call(ChangeState, "/robustseg/change_state", request).success


def set_topic(world: Any, topic: str) -> Any:
    return set_parameter(world, "streams.rgb.topic", topic)


def set_parameter(world: Any, name: str, value: Any) -> Any:
    parameter = Parameter(name, value=value).to_parameter_msg()
    request = SetParametersAtomically.Request(parameters=[parameter])
    return world.call(
        SetParametersAtomically, "/robustseg/set_parameters_atomically", request
    ).result


def listeners(world: Any, topic: str) -> int:
    return len(world.node.get_subscriptions_info_by_topic(topic))


def test_transitions_leave_nothing_behind(world):
    polite = "qos_overrides./robustseg/label_mask.publisher.reliability:=best_effort"
    node = world.segment("--params-file", str(ROBOT), "-p", "autostart:=false", "-p", polite)
    reset = world.call(Trigger, "/robustseg/reset", Trigger.Request())
    assert not reset.success and "configure first" in reset.message
    assert change(world, "configure")
    assert listeners(world, TOPIC) == 0
    for _ in range(2):
        assert change(world, "activate")
        world.until(lambda: listeners(world, TOPIC) == 1, "a subscription")
        world.until(lambda: world.node.count_publishers("/robustseg/label_mask"), "a publisher")
        (mask,) = world.node.get_publishers_info_by_topic("/robustseg/label_mask")
        assert mask.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        refusal = set_topic(world, "/elsewhere")
        assert not refusal.successful and "deactivate" in refusal.reason
        assert world.call(Trigger, "/robustseg/reset", Trigger.Request()).success
        assert change(world, "deactivate")
        for topic in (TOPIC, "/velodyne_points", "/event_camera/events", "/tf_static"):
            world.until(lambda t=topic: listeners(world, t) == 0, f"nobody on {topic}")
        assert world.node.count_publishers("/robustseg/label_mask") == 0
    assert set_topic(world, "/elsewhere").successful
    assert change(world, "activate")
    world.until(lambda: listeners(world, "/elsewhere") == 1, "a subscription to the new topic")
    assert change(world, "deactivate") and change(world, "cleanup")
    assert not change(world, "activate")  # not configured
    assert node.end(signal.SIGTERM) == 0, node.output
    assert "Traceback" not in node.output


def test_the_node_says_what_is_wrong_on_the_wire(world):
    """A type that is not what the name says, a foreign QoS, a torn payload."""
    words: dict[str, str] = {}

    def hear(message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            words[status.name] = f"{status.message} {values}"

    world.node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    volatile = QoSProfile(
        depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
    )
    optional.publisher(
        world.node, "tf2_msgs/msg/TFMessage", "/tf_static", volatile, event_callbacks=QUIET
    )
    events = optional.publisher(world.node, EVENT_PACKET, "/event_camera/events", 10)
    optional.publisher(
        world.node, "sensor_msgs/msg/Image", "/velodyne_points", 1, event_callbacks=QUIET
    )
    twin = Node("robustseg", context=world.context, enable_rosout=False)
    node = world.segment(
        "--params-file", str(ROBOT), "-p", "streams.rgb.topic:=/camera/color/image_raw"
    )
    world.until(lambda: "robustseg: node" in words, "diagnostics")
    # The name promised an Image; a CompressedImage appears, and the node changes its mind.
    world.until(lambda: listeners(world, "/camera/color/image_raw") == 1, "a subscription")
    (before,) = world.node.get_subscriptions_info_by_topic("/camera/color/image_raw")
    assert before.topic_type == "sensor_msgs/msg/Image"

    def told(sentence: str) -> bool:
        return world.until(lambda: sentence in words["robustseg: node"], f"'{sentence}'")

    told("2 nodes are called /robustseg, so that their topics, parameters and services mix; start")
    twin.destroy_node()
    told("/velodyne_points is offered as sensor_msgs/msg/Image, expected sensor_msgs/msg/Point")
    images = world.node.create_publisher(CompressedImage, "/camera/color/image_raw", 10)
    world.until(images.get_subscription_count, "a subscription of the offered type")
    said = (
        "/camera/color/image_raw is sensor_msgs/msg/CompressedImage now, was sensor_msgs/msg/Image"
    )
    assert said in node.output

    def heard() -> bool:
        events.publish(b"\0\1\0\0torn")
        return "rejected_format" in words.get("robustseg: event", "")

    world.until(heard, "the rejection of a torn payload")
    text = world.until(
        lambda: words["robustseg: node"] if "/tf_static" in words["robustseg: node"] else "",
        "a complaint about /tf_static",
    )
    assert "/test offers VOLATILE durability, this node asks TRANSIENT_LOCAL" in text
    assert "qos_overrides./tf_static.subscription.durability: volatile" in text
    assert "2 nodes are called" not in text
    # The same the other way round: somebody asks more of the masks than is offered.
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    world.node.create_subscription(
        Image,
        "/robustseg/label_mask",
        lambda m: None,
        latched,
        event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
    )
    text = world.until(
        lambda: words["robustseg: node"] if "label_mask" in words["robustseg: node"] else "",
        "a complaint about the masks",
    )
    assert "/test asks TRANSIENT_LOCAL durability, this node offers VOLATILE" in text
    assert node.end() == 0, node.output
    assert "Traceback" not in node.output


def test_a_clock_that_stops_and_jumps_stops_nobody(world):
    """Watchdogs and diagnostics are on the steady clock; a jump of /clock is one reset."""
    heard: list[DiagnosticArray] = []
    world.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    clock = world.node.create_publisher(Clock, "/clock", 10)
    node = world.segment("--params-file", str(ROBOT), "-p", "use_sim_time:=true")
    world.until(lambda: heard, "diagnostics without any /clock")
    world.until(clock.get_subscription_count, "the node on /clock")

    def at(seconds: int) -> bool:
        clock.publish(Clock(clock=Time(sec=seconds)))
        return bool(heard) and heard[-1].header.stamp.sec == seconds

    world.until(lambda: at(100), "diagnostics stamped with /clock")
    world.until(lambda: at(50), "diagnostics stamped after the jump")
    count = len(heard)
    world.until(lambda: len(heard) > count + 1, "diagnostics while /clock stands still")
    world.until(lambda: "one reset" in node.output, "a reset")
    assert node.end() == 0, node.output
    assert node.output.count("one reset") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-p", "streams.rgb.rate_hz:=-5.0"], "error: streams.rgb.rate_hz is -5.0: input should"),
        (["-p", "weights:=gone.safetensors", "-p", "streams.rgb.topic:=/a"], "error: gone.safe"),
        ([], "error: no stream has a topic"),
        (["--bogus"], "error: unknown ROS argument ['--bogus']"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_code_2(world, words, sentence):
    node = world.segment(*words)
    assert node.wait() == 2, node.output
    lines = node.output.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(sentence), node.output


def test_the_player_names_what_it_does_not_find(world, realdata):
    bag = realdata / "collage_four_sensors"
    player = world.play(bag, "--only", "rbg")
    assert player.wait() == 2
    assert "no topic or modality 'rbg'; did you mean 'rgb'?" in player.output


def test_a_player_that_nobody_listens_to_ends_at_ctrl_c(world, realdata):
    player = world.play(realdata / "collage_four_sensors")
    world.until(lambda: world.node.count_publishers("/velodyne_points"), "the player")
    assert player.end(signal.SIGINT) == 0, player.output
    assert "Traceback" not in player.output


def test_a_player_does_not_wait_for_who_wants_what_no_sensor_says(world, tmp_path):
    """/tf_static is RViz's, too; labels are nobody's."""
    bag = write_bag(tmp_path / "drive", 0.5)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    optional.subscribe(
        world.node, "tf2_msgs/msg/TFMessage", "/tf_static", lambda _message: None, latched
    )
    player, heard = world.play(bag), list[Any]()
    world.until(lambda: world.node.count_publishers("/tf_static"), "the player")
    world.node.create_subscription(Image, drives.TOPICS["rgb"], heard.append, 10)
    world.until(lambda: heard, "images, long before --wait has passed")
    assert "nobody listens to" in player.output and "/tf_static" not in player.output
    assert player.wait() == 0, player.output


@pytest.mark.parametrize("program", ["segment_node", "play_node", "fault_node", "doctor", "demo"])
def test_every_executable_says_how_it_is_used(program, capsys, monkeypatch):
    main = importlib.import_module(f"robustseg_ros.{program}").main
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 0 and not said.err
    assert said.out.startswith(f"usage: {program}")
    text = " ".join(said.out.split())
    assert "--params-file robot.yaml" in text and "robustseg params" in text
    assert not rclpy.ok()
    gc.unfreeze()


@pytest.mark.parametrize("program", ["segment_node", "fault_node"])
def test_words_that_mean_nothing_are_refused(program, capsys):
    main = importlib.import_module(f"robustseg_ros.{program}").main
    with pytest.raises(SystemExit) as end:
        main(["--device", "cpu", "--ros-args", "-r", "__ns:=/front"])
    assert end.value.code == 2 and "unrecognized arguments: --device cpu" in capsys.readouterr().err
    gc.unfreeze()


def test_the_end_does_not_walk_through_all_of_pytorch(capsys):
    """The interpreter's last collections of everything were a second of CPU at each Ctrl-C."""
    gc.unfreeze()
    assert run(lambda words: (_ for _ in ()).throw(KeyboardInterrupt), []) == 0
    assert gc.get_freeze_count() > 10_000
    gc.unfreeze()


def test_two_nodes_in_two_namespaces_are_told_apart(world):
    """By name and hardware_id, in /diagnostics and ~/status; the doctor sees two, and no clash."""
    spec, heard = checkpoint.default_spec(("rgb",)), {}

    def hear(message: DiagnosticArray) -> None:
        heard.update({status.name: status for status in message.status})

    world.node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    nodes, sinks = [], []
    for side in ("/left", "/right"):
        node = Node("robustseg", namespace=side, context=world.context, enable_rosout=False)
        nodes.append(node)
        sinks.append(Publishers(node, spec))
        world.node.create_subscription(DiagnosticArray, f"{side}/robustseg/status", hear, 10)

    def all_heard() -> bool:
        for node, sink in zip(nodes, sinks, strict=True):
            full = node.get_fully_qualified_name()
            fields = messages.health({"rgb": Health(State.LIVE)}, 1, full)
            sink.publish_health(fields, {}, 0, "")
            sink.publish(a_label_map())
        return len(heard) == 8

    world.until(all_heard, "eight statuses of different names")
    parts = ("sensors", "rgb", "node", "mask")
    assert set(heard) == {f"{s}/robustseg: {p}" for s in ("left", "right") for p in parts}
    ids = {name: status.hardware_id for name, status in heard.items()}
    assert all(ids[name] == f"/{messages.part_of(name)[0]}" for name in heard)
    doctor = MagicMock(
        get_node_names_and_namespaces=lambda: [("robustseg", "/left"), ("robustseg", "/right")],
        _output_of=lambda full, count, _camera: Check("output", Status.OK, f"{full} {count}"),
    )
    assert DoctorNode._output(doctor).found == "/left/robustseg 1; /right/robustseg 1"
    for node, sink in zip(nodes, sinks, strict=True):
        sink.close()
        node.destroy_node()


def a_label_map() -> LabelMap:
    return LabelMap(
        ids=np.zeros((2, 2), np.uint8),
        confidence=np.zeros((2, 2), np.uint8),
        stamp_ns=1,
        frame_id="",
        used=("rgb",),
        reasons={},
        states={"rgb": State.LIVE},
        held_ms={},
        latency_ms={},
        bundle=Bundle(1, {}),
    )


def test_what_another_middleware_cannot_carry_is_named_and_the_rest_works(world, monkeypatch):
    """Stand-ins need Fast DDS; where the ROS packages are installed, nothing of this happens."""
    said: list[str] = []
    logger = type(world.node.get_logger())
    monkeypatch.setattr(logger, "warning", lambda self, text, **_: said.append(text))
    monkeypatch.setattr(
        typesupport, "get_rmw_implementation_identifier", lambda: "rmw_cyclonedds_cpp"
    )
    typesupport.stand_in.cache_clear()
    streams = {name: {"topic": f"/{name}"} for name in ("rgb", "event")}
    robot = config.parse(RobotConfig, {"weights": "untrained", "streams": streams})
    probe, _ = admit(robot)
    sinks = Publishers(world.node, probe.segmenter.spec)
    inputs = Inputs(world.node, probe.segmenter, Ear(bool))
    for _ in range(3):
        inputs.watch()
    found = inputs.complaints()
    assert set(found) == {"/event", "/tf_static", "/tf"}
    for package, text in {
        "event-camera-msgs": found["/event"],
        "tf2-msgs": found["/tf_static"],
        "vision-msgs": said[0],
    }.items():
        assert f"apt install ros-$ROS_DISTRO-{package}" in text
        assert "rmw_cyclonedds_cpp" in text
    assert len(said) == 4 and said[0].startswith("no ~/label_info: ")  # each of them once
    world.until(lambda: listeners(world, "/rgb") == 1, "what needs no stand-in")
    assert not listeners(world, "/event")
    assert not world.node.count_publishers("/test/label_info")
    world.until(lambda: world.node.count_publishers("/test/label_mask"), "masks")
    inputs.close()
    sinks.close()
    typesupport.stand_in.cache_clear()


HANGS = """
import sys
from pathlib import Path
from threading import Event
from robustseg_core.engines.eager import EagerEngine
from robustseg_ros import segment_node
segment_node.JOIN_S = 0.2
think, hangs = EagerEngine.__call__, {hangs!r}
def maybe(self, bundle):
    if Path(hangs).exists() and bundle.stamp_ns:
        Path(hangs).unlink()
        while not Path(hangs + ".over").exists():
            Event().wait(0.05)
    return think(self, bundle)
EagerEngine.__call__ = maybe
sys.exit(segment_node.main())
"""


def test_inference_that_hangs_is_named_left_alone_and_replaced(world, tmp_path):
    sensors, hangs = Sensors(world.node), tmp_path / "hangs"
    ear = Listener(world, sensors)
    file = parameter_file(tmp_path, weights="untrained")
    words = ("--ros-args", "--params-file", str(file))
    node = world.start("-c", HANGS.format(hangs=str(hangs)), *words)
    world.until(lambda: ear.heard, "a mask")
    hangs.touch()
    world.until(lambda: not hangs.exists(), "the inference to hang")
    assert change(world, "deactivate")
    assert "inference has not ended within 0.2 s" in node.output
    assert change(world, "activate")
    number = len(ear.heard)
    world.until(lambda: len(ear.heard) > number + 2, "masks of another thread and network")
    status = "robustseg: node"
    world.until(
        lambda: status in ear.health and "1 inference threads hang" in ear.health[status].message,
        "diagnostics that tell it",
    )
    assert ear.health[status].level == b"\x02"
    (tmp_path / "hangs.over").touch()
    world.until(lambda: ear.health[status].message == "ok", "the hung one to end")
    number = len(ear.heard)
    world.until(lambda: len(ear.heard) > number + 2, "masks")
    stamps = [one.row["stamp_ns"] for one in ear.heard]
    assert stamps == sorted(set(stamps))  # not one of the late thread
    hangs.touch()
    (tmp_path / "hangs.over").unlink()
    world.until(lambda: not hangs.exists(), "the inference to hang again")
    assert node.end() == 0, node.output  # Ctrl-C waits no longer for it
    assert "Traceback" not in node.output


def test_a_stream_is_switched_while_active(world, tmp_path):
    """off unsubscribes, dead goes on to count, auto listens again; nobody is alarmed."""
    sensors = Sensors(world.node)
    ear = Listener(world, sensors)
    node = world.segment("--params-file", str(parameter_file(tmp_path, weights="untrained")))
    every, rest = set(drives.ALL), set(drives.ALL) - {"rgb"}
    world.until(lambda: ear.used(every), "a mask made of all sensors")
    topic, parameter = drives.TOPICS["rgb"], "streams.rgb.mode"

    def told(level: bytes, words: str) -> None:
        def found() -> bool:
            if not ear.health:  # it is said once a second
                return False
            rgb, whole = (ear.health[f"robustseg: {part}"] for part in ("rgb", "sensors"))
            return words in rgb.message and rgb.level == whole.level == level

        world.until(found, f"rgb: {words}")

    for mode, words, listening in (
        (False, "disabled: switched off", 0),  # what `ros2 param set` makes of off
        ("dead", "acknowledged: its mode is dead; it speaks", 1),
        ("auto", "LIVE", 1),
    ):
        start = len(ear.heard)
        assert set_parameter(world, parameter, mode).successful
        world.until(lambda n=listening: listeners(world, topic) == n, f"{listening} on {topic}")
        expected = every if mode == "auto" else rest
        world.until(lambda s=start, e=expected: ear.used(e, s), f"masks of {expected}")
        told(b"\0", words)
    refused = set_parameter(world, parameter, "on")
    assert not refused.successful and "streams.rgb.mode is 'on'" in refused.reason
    assert node.end() == 0, node.output
    assert "Traceback" not in node.output and "reset" not in node.output
