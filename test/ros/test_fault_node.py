"""The saboteur between the sensors and the node, over DDS."""

from __future__ import annotations

import pytest

from support import ROOT

pytest.importorskip("rclpy")

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage

pytestmark = pytest.mark.ros
ROBOT = ROOT / "config" / "robot.yaml"
TOPIC = "/camera/color/image_raw/compressed"


def set_faults(world, words):
    client = world.node.create_client(SetParameters, "/saboteur/set_parameters")
    world.until(client.service_is_ready, "the saboteur's parameters")
    value = Parameter("faults", Parameter.Type.STRING_ARRAY, words).to_parameter_msg()
    future = client.call_async(SetParameters.Request(parameters=[value]))
    world.until(future.done, "an answer about the faults")
    return future.result().results[0]


def test_faults_are_switched_by_parameter_while_messages_flow(world, realdata):
    got: list[bytes] = []
    world.node.create_subscription(
        CompressedImage,
        f"/faulty{TOPIC}",
        lambda m: got.append(bytes(m.data)),
        qos_profile_sensor_data,
    )
    node = world.start("-m", "robustseg_ros.fault_node", "--ros-args", "--params-file", str(ROBOT))
    bag = realdata / "collage_four_sensors"
    player = world.play(bag, "--restamp", "--loop", "0", "--only", "rgb")
    world.until(lambda: len(set(got)) >= 5, "five different images")

    assert set_faults(world, ["rgb:stuck"]).successful
    world.until(lambda: len(got) > 20 and len(set(got[-8:])) == 1, "eight equal images")

    refused = set_faults(world, ["rgb:stuk"])
    assert not refused.successful and "did you mean 'stuck'?" in refused.reason
    assert set_faults(world, [""]).successful
    world.until(lambda: len(set(got[-5:])) == 5, "different images again")
    assert player.end() == 0 and node.end() == 0, node.output
    assert "Traceback" not in node.output
