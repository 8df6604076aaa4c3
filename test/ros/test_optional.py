"""Types that PyPI has no package for cross DDS as if it had."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.qos import qos_profile_sensor_data
from rclpy.type_support import check_for_type_support

from robustseg_core.bag.typestore import EVENT_PACKET, typestore
from robustseg_core.errors import RobustsegError
from robustseg_ros import optional, typesupport
from robustseg_ros.convert import message_class
from robustseg_ros.typedescription import TypeDescription, describe
from support import ros_speaker as speaker

pytestmark = pytest.mark.ros


def same(left: Any, right: Any) -> bool:
    """Whether two messages, of whatever classes, hold the same."""
    if hasattr(right, "__msgtype__"):
        names = [name for name, _ in typestore().fielddefs[right.__msgtype__][1]]
        return all(same(getattr(left, name), getattr(right, name)) for name in names)
    if isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(np.array_equal(left, right))


def test_every_way_of_publishing_reaches_every_way_of_subscribing(world, monkeypatch):
    world.start(str(Path(speaker.__file__)))
    got: dict[tuple[str, str, str], Any] = {}
    installed = optional.message_class
    pairs = [
        (msgtype, there, here)
        for msgtype in speaker.MESSAGES
        for there in speaker.WAYS
        for here in speaker.WAYS
        if installed(msgtype) or "installed" not in (there, here)
    ]
    for msgtype, there, here in pairs:
        found = installed if here == "installed" else lambda msgtype: None
        monkeypatch.setattr(optional, "message_class", found)
        optional.subscribe(
            world.node,
            msgtype,
            speaker.topic_of(msgtype, there),
            lambda message, key=(msgtype, there, here): got.setdefault(key, message),
            qos_profile_sensor_data,
        )
    world.until(lambda: len(got) == len(pairs), "a message on every pair")
    assert ("sensor_msgs/msg/PointCloud2", "installed", "stand-in") in got
    assert ("sensor_msgs/msg/PointCloud2", "stand-in", "installed") in got
    for (msgtype, there, _), message in got.items():
        assert same(message, speaker.MESSAGES[msgtype])
        (offer,) = world.node.get_publishers_info_by_topic(speaker.topic_of(msgtype, there))
        assert offer.topic_type == msgtype
        assert str(offer.topic_type_hash) == typestore().hash_rihs01(msgtype)


class _Handle(ctypes.Structure):
    _fields_ = typesupport._TypeSupport._fields_


def _tree(item: Any) -> Any:
    """A C type description as Python values."""
    if hasattr(item, "type_description"):
        return _tree(item.type_description), [
            _tree(item.referenced.data[i]) for i in range(item.referenced.size)
        ]
    if hasattr(item, "fields"):
        fields = item.fields
        return item.type_name.data, [_tree(fields.data[i]) for i in range(fields.size)]
    kind = item.type
    nested = kind.nested_type_name.data or b""
    return item.name.data, kind.type_id, kind.capacity, kind.string_capacity, nested


@pytest.mark.parametrize(
    "msgtype",
    [
        "sensor_msgs/msg/Image",
        "sensor_msgs/msg/CameraInfo",
        "sensor_msgs/msg/PointCloud2",
        "diagnostic_msgs/msg/DiagnosticArray",
        "shape_msgs/msg/SolidPrimitive",
        "std_msgs/msg/Empty",
    ],
)
def test_our_type_descriptions_are_those_that_the_compiled_packages_carry(msgtype):
    kind = message_class(msgtype)
    check_for_type_support(kind)
    address = typesupport._capsule_pointer(kind.__class__._TYPE_SUPPORT, None)
    theirs = _Handle.from_address(address).description(address)
    ours = describe(msgtype)
    gc.collect()  # whatever C points to must have an owner
    assert _tree(ours) == _tree(TypeDescription.from_address(theirs))


def test_a_type_that_nobody_defines_is_an_error_with_a_way_out():
    with pytest.raises(RobustsegError, match="install the ROS package novel_msgs"):
        typesupport.stand_in("novel_msgs/msg/Smell")


def test_a_stand_in_needs_fast_dds_and_says_so(monkeypatch):
    monkeypatch.setattr(typesupport, "get_rmw_implementation_identifier", lambda: "rmw_zenoh")
    with pytest.raises(RobustsegError, match="RMW_IMPLEMENTATION is rmw_zenoh"):
        typesupport.stand_in("tf2_msgs/msg/TF2Error")


def test_what_no_decoder_understands_is_a_rejection_not_an_exception(world):
    refused: list[Any] = []
    publisher = optional.publisher(world.node, EVENT_PACKET, "/events", 10)
    optional.subscribe(
        world.node, EVENT_PACKET, "/events", pytest.fail, 10, rejected=refused.append
    )
    world.until(publisher.rcl.get_subscription_count, "a match")

    def heard() -> list[Any]:
        publisher.publish(b"\0\1\0\0garbage")
        return refused

    world.until(heard, "a rejection")
    assert "bytes are no event_camera_msgs/msg/EventPacket" in str(refused[0])


def test_a_middleware_that_refuses_a_stand_in_says_what_to_install(world, monkeypatch):
    def refuses(*_given: object, **_options: object) -> None:
        text = "failed to register type object with incompatible type X_, at /src/publisher.cpp:196"
        raise optional.RCLError(text)

    monkeypatch.setattr(optional, "message_class", lambda msgtype: None)
    monkeypatch.setattr(world.node, "create_publisher", refuses)
    monkeypatch.setattr(world.node, "create_subscription", refuses)
    told = r"incompatible type X_\); `apt install ros-\$ROS_DISTRO-tf2-msgs`"
    with pytest.raises(RobustsegError, match=told):
        optional.publisher(world.node, "tf2_msgs/msg/TFMessage", "/tf", qos_profile_sensor_data)
    with pytest.raises(RobustsegError, match=told):
        optional.subscribe(
            world.node, "tf2_msgs/msg/TFMessage", "/tf", print, qos_profile_sensor_data
        )
