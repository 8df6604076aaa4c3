"""The message definitions known without ROS: Kilted's, and those of event cameras and class names.

One store serves bags, the recorder, the live node's stand-ins (`robustseg_ros.optional`) and tests.
"""

from __future__ import annotations

from functools import cache
from textwrap import dedent

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

EVENT_PACKET = "event_camera_msgs/msg/EventPacket"
FORMER_EVENT_PACKET = "event_array_msgs/msg/EventArray"
"""What EventPacket was called until 2023, field by field."""
EVENT_ARRAYS = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
"""An event after the other as structures of fields: `codecs/events/event_array.py` reads them."""
LABEL_INFO = "vision_msgs/msg/LabelInfo"

_PACKET = """
    std_msgs/Header header
    uint32 height
    uint32 width
    uint64 seq
    uint64 time_base
    string encoding
    bool is_bigendian
    uint8[] events
    """
_ARRAY = """
    std_msgs/Header header
    uint32 height
    uint32 width
    {package}/Event[] events
    """
_EVENT = """
    uint16 x
    uint16 y
    builtin_interfaces/Time ts
    bool polarity
    """

_MORE = {
    EVENT_PACKET: _PACKET,
    FORMER_EVENT_PACKET: _PACKET,
    **{f"{name.split('/')[0]}/msg/Event": _EVENT for name in EVENT_ARRAYS},
    **{name: _ARRAY.format(package=name.split("/")[0]) for name in EVENT_ARRAYS},
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
