"""The node's life: transitions, parameters, services, diagnostics, and how it ends."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from robustseg_core.typestore import EVENT_PACKET
from robustseg_ros import optional

pytestmark = pytest.mark.ros
ROBOT = Path(__file__).resolve().parents[2] / "config" / "robot.yaml"
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
    parameter = Parameter("streams.rgb.topic", value=topic).to_parameter_msg()
    assert parameter.value.type == ParameterType.PARAMETER_STRING
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
    node = world.segment(
        "--params-file", str(ROBOT), "-p", "streams.rgb.topic:=/camera/color/image_raw"
    )
    world.until(lambda: "robustseg: node" in words, "diagnostics")
    # The name promised an Image; a CompressedImage appears, and the node changes its mind.
    world.until(lambda: listeners(world, "/camera/color/image_raw") == 1, "a subscription")
    (before,) = world.node.get_subscriptions_info_by_topic("/camera/color/image_raw")
    assert before.topic_type == "sensor_msgs/msg/Image"
    images = world.node.create_publisher(CompressedImage, "/camera/color/image_raw", 10)
    world.until(images.get_subscription_count, "a subscription of the offered type")

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
    assert node.end() == 0, node.output
    assert node.output.count("the ROS clock jumped: one reset") == 1


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
