"""One function per decoder that takes any bytes: what a coverage-guided fuzzer calls.

The bytes are a few small numbers (sizes, an index into the encodings) and a payload, so that a
fuzzer reaches the decoder at once instead of learning CDR first. `corpus` says the same of the
valid messages: it is where fuzzing starts.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace as Message
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

from fuzz.seeds import kinds
from robustseg_core import modalities
from robustseg_core.bag import Bag
from robustseg_core.bag.codec import codec_of
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.events.evt3 import Evt3Decoder
from robustseg_core.codecs.fields import header
from robustseg_core.codecs.image import FORMATS, decode_compressed, decode_image
from robustseg_core.codecs.picture import picture_size
from robustseg_core.codecs.points import decode_points
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.transforms import TransformTree
from robustseg_core.geometry.view import View

ENCODINGS = (*FORMATS, "unheard_of")
DEPTHS = ("16UC1", "mono16", "32FC1", "8UC1")
FORMS = ("16UC1; compressedDepth png", "16UC1; compressedDepth rvl", "32FC1; compressedDepth rvl",
         "32FC1; compressedDepth png", "png", "jpeg", "rgb8; jpeg compressed rgb8")  # fmt: skip
NAMES = ("x", "y", "z", "intensity", "ring", "t", "reflectivity")
LENSES = ("plumb_bob", "rational_polynomial", "equidistant", "")
_IMAGE = struct.Struct("<BBHHI")
_CLOUD = struct.Struct("<BBHHHI")
_FIELD = struct.Struct("<BBH")
_CAMERA = struct.Struct("<BBIIIIIIII4d")
_POSE = struct.Struct("<BB7d")


def image(data: bytes) -> None:
    """Raw images: rows, columns, three channels."""
    message = _raw(data, ENCODINGS)
    rgb = decode_image(message)
    _demand(rgb.shape == (message.height, message.width, 3) and rgb.dtype == np.uint8, rgb.shape)
    int(rgb.sum())  # reads every byte


def depth(data: bytes) -> None:
    """Raw depth: metres or NaN."""
    _metres(decode_depth(_raw(data, DEPTHS)))


def compressed_depth(data: bytes) -> None:
    """png, RVL and compressedDepth: metres or NaN."""
    _metres(decode_depth(Message(format=FORMS[_byte(data) % len(FORMS)], data=data[1:])))


def compressed(data: bytes) -> None:
    """jpeg, png and webp; what the header claims is what comes."""
    content = data[1:]
    said = picture_size(np.frombuffer(content, np.uint8))
    rgb = decode_compressed(Message(format=FORMS[_byte(data) % len(FORMS)], data=content))
    _demand(said is not None and rgb.shape == (*said, 3), f"{rgb.shape}, header {said}")


def points(data: bytes) -> None:
    """Clouds of any layout: finite, never the origin, as many as there are."""
    flags, count, height, width, point_step, row_step = _CLOUD.unpack_from(data)
    at, fields = _CLOUD.size, []
    for _ in range(count % 12):
        name, datatype, offset = _FIELD.unpack_from(data, at)
        at += _FIELD.size
        fields.append(Message(name=NAMES[name % len(NAMES)], datatype=datatype, offset=offset))
    cloud = decode_points(Message(
        height=height, width=width, point_step=point_step, row_step=row_step, data=data[at:],
        fields=fields, is_bigendian=bool(flags & 1),
    ))  # fmt: skip
    _demand(np.isfinite(cloud.xyz).all() and len(cloud.xyz) <= height * width, "xyz")
    for column in (cloud.intensity, cloud.ring):
        _demand(column is None or (len(column) == len(cloud.xyz) and np.isfinite(column).all()), "")


def events(data: bytes) -> None:
    """EVT3 in two packets: every pixel on the sensor, the counts add up."""
    width, height, first = struct.unpack_from("<HHH", data)
    decoder = Evt3Decoder(width, height)
    for payload in (data[6 : 6 + first], data[6 + first :]):
        found = decoder.decode(payload)
        inside = (found.x < width).all() and (found.y < height).all()
        _demand(inside and len(found.x) == len(found.t), "a pixel is off the sensor")
        _demand(found.words == len(payload) // 2, "words are not counted")


def calibration(data: bytes) -> None:
    """CameraInfo, and everything that is computed from it: no warning, no infinity."""
    lens, rectified, height, width, *rest = _CAMERA.unpack_from(data)
    binning, roi, (fx, fy, cx, cy) = rest[:2], rest[2:6], rest[6:]
    count = min(29, (len(data) - _CAMERA.size) // 8)
    numbers = np.frombuffer(data, "<f8", count, _CAMERA.size)
    camera = Camera.from_message(Message(
        header=Message(stamp=Message(sec=1, nanosec=0), frame_id="camera"),
        height=height, width=width, distortion_model=LENSES[lens % len(LENSES)],
        k=[fx, 0, cx, 0, fy, cy, 0, 0, 1], r=numbers[:9], p=numbers[9:21], d=numbers[21:],
        binning_x=binning[0], binning_y=binning[1],
        roi=Message(height=roi[0], width=roi[1], y_offset=roi[2], x_offset=roi[3]),
    ), rectified=bool(rectified & 1))  # fmt: skip
    view = View((32, 64))
    view.set_camera("rgb", camera)
    view.set_camera("event", camera)
    view.lookup("event", "camera", 6, 8)
    grid = np.stack(np.meshgrid(*[np.linspace(-9, 9, 5, dtype=np.float32)] * 3), -1).reshape(-1, 3)
    found = view.project(grid)
    _demand(bool((found.rows < 32).all() and (found.cols < 64).all()), "beyond the grid")
    _demand(min(camera.image_size) > 0 and camera.same_pixels(camera), "size")
    _demand(not np.isinf(camera.rays(6, 8)).any(), "a ray is infinite")


def transforms(data: bytes) -> None:
    """A tree of transforms; whatever way leads anywhere is finite."""
    stamped = []
    for at in range(0, min(len(data), 64 * _POSE.size) - _POSE.size + 1, _POSE.size):
        parent, child, x, y, z, qx, qy, qz, qw = _POSE.unpack_from(data, at)
        stamped.append(Message(
            header=Message(frame_id=f"f{parent % 16}"), child_frame_id=f"f{child % 16}",
            transform=Message(translation=Message(x=x, y=y, z=z),
                              rotation=Message(x=qx, y=qy, z=qz, w=qw)),
        ))  # fmt: skip
    tree = TransformTree()
    tree.add(Message(transforms=stamped))
    for number in range(16):
        way = tree.way("f0", f"f{number}")
        _demand(way is None or bool(np.isfinite(way).all()), "a way is not finite")


def cdr(data: bytes) -> None:
    """Serialized bytes of every kind, through a bag's reader, its decoder and its judge."""
    kind = kinds()[_byte(data) % len(kinds())]
    nothing = MessageDefinition(MessageDefinitionFormat.NONE, "")
    message = _codec(kind.msgtype, nothing).message(data[1:])
    if kind.stream == "camera_info":
        Camera.from_message(message)
    elif kind.stream == "tf":
        TransformTree().add(message)
    else:
        decoder = modalities.load(kind.stream)()
        for finding in decoder.check(decoder.decode(message, header(message)[0])):
            _demand(0 <= finding.score <= 1, finding)
        decoder.digest(message)


def definition(data: bytes) -> None:
    """Free text for a definition: a reason, or a decoder that decodes or rejects."""
    text = data.decode(errors="replace")
    codec = _codec("odd_msgs/msg/Thing", MessageDefinition(MessageDefinitionFormat.MSG, text))
    codec.header(bytes(64))
    codec.message(b"\0\1\0\0" + b"\1\0\0\0\0\0\0\0" * 8)


def bag(data: bytes) -> None:
    """A file: read as far as it goes."""
    with tempfile.TemporaryDirectory(prefix="robustseg-fuzz-") as folder:
        path = Path(folder) / "drive.mcap"
        path.write_bytes(data)
        with Bag(path) as opened:
            for recorded in opened.messages():
                recorded.header()


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (image, depth, compressed_depth, compressed, points, events, calibration, transforms,
              cdr, definition, bag)
}  # fmt: skip


def call(name: str, data: bytes) -> bool:
    """Whether the target took `data`; False: it refused properly.

    Raises:
        Exception: neither.
    """
    try:
        TARGETS[name](data)
    except (RobustsegError, struct.error) as error:
        if isinstance(error, struct.error) and len(data) > 4096:
            raise  # not for want of bytes
        return False
    return True


def corpus(name: str) -> Iterator[bytes]:  # noqa: C901  # a branch for each of a list
    """Valid inputs of a target."""
    for kind in kinds():
        message, text = kind.message(0), getattr(kind.message(0), "encoding", "")
        if name == "cdr":
            yield bytes([kinds().index(kind)]) + kind.wires[0]
        elif name in ("image", "depth") and text in (ENCODINGS, DEPTHS)[name == "depth"]:
            index = (ENCODINGS, DEPTHS)[name == "depth"].index(text)
            small = (message.height, message.width, message.step)
            yield _IMAGE.pack(index, message.is_bigendian, *small) + bytes(message.data)
        elif name == "compressed" and kind.name.startswith("compressed"):
            yield bytes([5]) + bytes(message.data)
        elif name == "compressed_depth" and getattr(message, "format", "") in FORMS[:5]:
            yield bytes([FORMS.index(message.format)]) + bytes(message.data)
        elif name == "points" and kind.stream == "lidar":
            yield _cloud(message)
        elif name == "events" and kind.stream == "event":
            half = message.events.size // 4 * 2
            yield struct.pack("<HHH", 640, 480, half) + bytes(message.events)
        elif name == "calibration" and kind.stream == "camera_info":
            yield _camera(message)
    if name == "transforms":
        yield b"".join(_POSE.pack(n, n + 1, 1, 2, 3, 0, 0, 0, 1) for n in range(3))
    elif name == "definition":
        yield b"uint32 number\nfloat64[3] force\nuint8[32] name\n"
        yield b"std_msgs/Header header\nfloat32[] force\nuint8[4] id\nstring<=9 name\n"
    elif name == "bag":
        from fuzz.bags import sound

        yield from (sound()[form] for form in ("mcap", "zstd"))


def _raw(data: bytes, encodings: tuple[str, ...]) -> Message:
    index, big, height, width, step = _IMAGE.unpack_from(data)
    return Message(encoding=encodings[index % len(encodings)], is_bigendian=big & 1, height=height,
                   width=width, step=step, data=data[_IMAGE.size :])  # fmt: skip


def _cloud(message: Any) -> bytes:
    fields = [f for f in message.fields if f.name in NAMES]
    head = _CLOUD.pack(message.is_bigendian, len(fields), message.height, message.width,
                       message.point_step, message.row_step)  # fmt: skip
    packed = (_FIELD.pack(NAMES.index(f.name), f.datatype, f.offset) for f in fields)
    return head + b"".join(packed) + bytes(message.data)


def _camera(message: Any) -> bytes:
    k, roi = message.k, message.roi
    head = _CAMERA.pack(
        LENSES.index(message.distortion_model if len(message.d) else ""), len(message.d) & 1,
        message.height, message.width, 1, 1, roi.height, roi.width, roi.y_offset, roi.x_offset,
        k[0], k[4], k[2], k[5],
    )  # fmt: skip
    return head + np.concatenate([message.r, message.p, message.d]).astype("<f8").tobytes()


def _codec(msgtype: str, text: MessageDefinition) -> Any:
    extra = ConnectionExtRosbag2("cdr", [])
    return codec_of(Connection(1, "/t", msgtype, text, "", 0, extra, None))


def _byte(data: bytes) -> int:
    return data[0] if data else 0


def _metres(depth_m: np.ndarray) -> None:
    known = depth_m[~np.isnan(depth_m)]
    _demand(depth_m.ndim == 2 and bool(((known > 0) & (known < np.inf)).all()), "metres")


def _demand(kept: Any, what: Any) -> None:
    if not kept:
        raise AssertionError(f"a promise is broken: {what}")
