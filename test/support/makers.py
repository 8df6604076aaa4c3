"""Messages made for tests: real rosbags classes, filled from arrays."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np

from robustseg_core.bag.typestore import EVENT_PACKET, typestore


def make(msgtype: str, **fields: Any) -> Any:
    return typestore().types[msgtype](**fields)


def header(stamp_ns: int = 1_000_000_000, frame_id: str = "camera") -> Any:
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def image(
    array: np.ndarray,
    encoding: str,
    stamp_ns: int = 1_000_000_000,
    frame_id: str = "camera",
    *,
    step: int | None = None,
    width: int | None = None,
    is_bigendian: int = 0,
) -> Any:
    """sensor_msgs/Image whose payload is the bytes of `array` (H, W[, C])."""
    return make(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns, frame_id),
        height=array.shape[0],
        width=array.shape[1] if width is None else width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=array[0].nbytes if step is None else step,
        data=np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8),
    )


def scenes(count: int, *, seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """(count, H, W, 3) uint8: colorful pictures that no camera would be ashamed of."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(40, 220, (count, 8, 10, 3))
    return np.stack(
        [
            np.clip(cv2.resize(x, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 255).astype(
                np.uint8
            )
            for x in small
        ]
    )


def compressed(
    bgr: np.ndarray, stamp_ns: int = 1_000_000_000, frame_id: str = "camera", form: str = "jpeg"
) -> Any:
    ok, data = cv2.imencode(f".{form}", bgr)
    assert ok
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp_ns, frame_id),
        format=form,
        data=data.reshape(-1),
    )


def _numbers_to_words(numbers: list[int]) -> bytes:
    """Wilson 2017: three bits of a number per nibble, lowest first, top bit while it goes on."""
    nibbles = ""
    for number in numbers:
        rest = number
        while True:
            rest, bits = rest >> 3, rest & 7
            nibbles += f"{bits | (8 if rest else 0):x}"
            if not rest:
                break
    nibbles += "0" * (-len(nibbles) % 8)
    return b"".join(
        struct.pack("<I", int(nibbles[i : i + 8], 16)) for i in range(0, len(nibbles), 8)
    )


def rvl(values: np.ndarray) -> bytes:
    """The RVL stream of an image: runs of zeros and of others, these as zigzag differences."""
    flat = [int(v) for v in values.reshape(-1)]
    numbers: list[int] = []
    at, previous = 0, 0
    while at < len(flat):
        zeros = at
        while at < len(flat) and flat[at] == 0:
            at += 1
        run = at
        while at < len(flat) and flat[at] != 0:
            at += 1
        numbers += [run - zeros, at - run]
        for value in flat[run:at]:
            step, previous = value - previous, value
            numbers.append(2 * step if step >= 0 else -2 * step - 1)
    return struct.pack("<II", values.shape[1], values.shape[0]) + _numbers_to_words(numbers)


def camera_info(
    height: int = 480,
    width: int = 640,
    fx: float = 500.0,
    frame_id: str = "camera",
    stamp_ns: int = 1_000_000_000,
    d: tuple[float, ...] = (),
    model: str = "plumb_bob",
) -> Any:
    k = np.array([fx, 0, (width - 1) / 2, 0, fx, (height - 1) / 2, 0, 0, 1], np.float64)
    p = np.array([fx, 0, k[2], 0, 0, fx, k[5], 0, 0, 0, 1, 0], np.float64)
    roi = make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=0,
        y_offset=0,
        height=0,
        width=0,
        do_rectify=False,
    )
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        distortion_model=model,
        d=np.array(d, np.float64),
        k=k,
        r=np.eye(3).reshape(-1),
        p=p,
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


_FIELD_TYPE = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


def cloud(
    points: np.ndarray,
    stamp_ns: int = 1_000_000_000,
    frame_id: str = "lidar",
    *,
    height: int = 1,
    row_padding: int = 0,
) -> Any:
    """sensor_msgs/PointCloud2 from a structured array; its dtype is the layout on the wire."""
    dtype = points.dtype
    width = points.size // height
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=offset,
            datatype=_FIELD_TYPE[kind.base.str[1:]],
            count=int(np.prod(kind.shape)) if kind.shape else 1,
        )
        for name, (kind, offset, *_) in dtype.fields.items()
    ]
    big = any(kind.base.byteorder == ">" for kind, *_ in dtype.fields.values())
    rows = points.reshape(height, width)
    data = b"".join(row.tobytes() + b"\xaa" * row_padding for row in rows)
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=big,
        point_step=dtype.itemsize,
        row_step=width * dtype.itemsize + row_padding,
        data=np.frombuffer(data, np.uint8),
        is_dense=False,
    )


def xyz(points: np.ndarray, **options: Any) -> Any:
    """PointCloud2 of (N, 3) metres with x y z float32 and intensity float32."""
    table = np.zeros(len(points), [(n, "<f4") for n in ("x", "y", "z", "intensity")])
    for column, name in enumerate("xyz"):
        table[name] = points[:, column]
    table["intensity"] = 0.5
    return cloud(table, **options)


def events(
    words: np.ndarray,
    stamp_ns: int = 1_000_000_000,
    frame_id: str = "event_camera",
    *,
    seq: int = 0,
    height: int = 480,
    width: int = 640,
    encoding: str = "evt3",
) -> Any:
    """event_camera_msgs/EventPacket holding 16-bit `words`."""
    return make(
        EVENT_PACKET,
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        seq=seq,
        time_base=0,
        encoding=encoding,
        is_bigendian=False,
        events=np.frombuffer(np.ascontiguousarray(words, "<u2").tobytes(), np.uint8),
    )


def event_array(
    rows: list[tuple[int, int, bool, int]],
    stamp_ns: int = 1_000_000_000,
    *,
    height: int = 480,
    width: int = 640,
    package: str = "dvs_msgs",
) -> Any:
    """EventArray of (x, y, on, nanoseconds), an object per event: as deserializers make it."""
    kind = f"{package}/msg/Event"
    events = [make(kind, x=x, y=y, ts=header(t).stamp, polarity=bool(on)) for x, y, on, t in rows]
    place = header(stamp_ns, "event_camera")
    return make(f"{kind}Array", header=place, height=height, width=width, events=events)


def event_cloud(
    rows: list[tuple[int, int, bool, Any]], stamp_ns: int = 1_000_000_000, *, t: str = "<u4"
) -> Any:
    """PointCloud2 of (x, y, on, t) with these fields and no others."""
    layout = [("x", "<u2"), ("y", "<u2"), ("t", t), ("polarity", "u1")]
    table = np.array([(x, y, when, on) for x, y, on, when in rows], layout)
    return cloud(table, stamp_ns=stamp_ns, frame_id="event_camera")


def transform(
    parent: str,
    child: str,
    translation: tuple[float, float, float] = (0, 0, 0),
    quaternion: tuple[float, float, float, float] = (0, 0, 0, 1),
    *,
    stamp_ns: int = 0,
) -> Any:
    """tf2_msgs/TFMessage with one transform: pose of `child` in `parent`, quaternion x y z w."""
    vector = make(
        "geometry_msgs/msg/Vector3", **dict(zip("xyz", map(float, translation), strict=True))
    )
    rotation = make(
        "geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, quaternion), strict=True))
    )
    stamped = make(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=make("geometry_msgs/msg/Transform", translation=vector, rotation=rotation),
    )
    return make("tf2_msgs/msg/TFMessage", transforms=[stamped])


def pretend_png(height: int, width: int) -> bytes:
    """A complete png of a few bytes that claims any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body
