"""The message definitions known without ROS: Kilted's, plus event_camera_msgs/msg/EventPacket.

One store serves bags, the recorder, the live node's stand-ins (`robustseg_ros.optional`) and tests.
"""

from __future__ import annotations

from functools import cache

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

EVENT_PACKET = "event_camera_msgs/msg/EventPacket"

_EVENT_PACKET_FIELDS = """
std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""


@cache
def typestore() -> Typestore:
    """The store; call `typestore().types["sensor_msgs/msg/Image"]` for a message class."""
    store = get_typestore(Stores.ROS2_KILTED)
    store.register(get_types_from_msg(_EVENT_PACKET_FIELDS, EVENT_PACKET))
    return store
