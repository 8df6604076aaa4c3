"""The message definitions known without ROS: Kilted's, and those of event cameras and class names.

One store serves bags, the recorder, the live node's stand-ins (`robustseg_ros.optional`) and tests.
"""

from __future__ import annotations

from functools import cache
from textwrap import dedent

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

EVENT_PACKET = "event_camera_msgs/msg/EventPacket"
LABEL_INFO = "vision_msgs/msg/LabelInfo"

_MORE = {
    EVENT_PACKET: """
        std_msgs/Header header
        uint32 height
        uint32 width
        uint64 seq
        uint64 time_base
        string encoding
        bool is_bigendian
        uint8[] events
        """,
    "vision_msgs/msg/VisionClass": """
        uint16 class_id
        string class_name
        """,
    LABEL_INFO: """
        std_msgs/Header header
        vision_msgs/VisionClass[] class_map
        float32 threshold
        """,
}


@cache
def typestore() -> Typestore:
    """The store; call `typestore().types["sensor_msgs/msg/Image"]` for a message class."""
    store = get_typestore(Stores.ROS2_KILTED)
    for name, fields in _MORE.items():
        store.register(get_types_from_msg(dedent(fields), name))
    return store
