"""A label map as standard ROS messages, written once for the live node and for the MCAP.

Each function returns the fields of one message as nested dicts; `to_rosbags` builds them here,
`robustseg_ros.convert.to_message` on the robot. `DiagnosticStatus.level` is an int in the dict, as
rosbags wants it; rclpy wants `bytes` of length one, which its builder makes of the int.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype

from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.fields import nanoseconds
from robustseg_core.codecs.tf_message import Edge
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.geometry.scene import Scene
from robustseg_core.health.backlog import Load
from robustseg_core.types import (
    IGNORE,
    SECOND,
    Fault,
    Finding,
    Health,
    LabelMap,
    ModelSpec,
    State,
    sentence,
)

Fields = dict[str, Any]

NODE = "robustseg"
"""The node's name, where no namespace makes it longer."""
UNLABELED = "unlabeled"
"""The name of `IGNORE`: vision_msgs keeps the highest id of a mask for it."""
REASON = "reason"
"""Key of a status: why a sensor is not simply LIVE; below it, by fault, each finding's text."""
OK, WARN, ERROR = 0, 1, 2
"""`DiagnosticStatus.level`, as REP 107 uses it."""

_PLUMB_BOB = 5
"""Coefficients of that model: k1 k2 p1 p2 k3."""
_WARNED = (Fault.SLOW, Fault.RECALIBRATED, Fault.NO_CALIB, Fault.NO_TF, Fault.INTERNAL)
"""What makes a LIVE stream a WARN while it is told."""
_LEVEL = {
    State.LIVE: OK,
    State.DISABLED: OK,
    State.WAITING: OK,
    State.DEGRADED: WARN,
    State.RECOVERING: WARN,
    State.DEAD: ERROR,
}
"""A stream that was switched off is no fault; a waiting one becomes a WARN with its findings."""


def header(stamp_ns: int, frame_id: str) -> Fields:
    """std_msgs/Header."""
    stamp = {"sec": stamp_ns // SECOND, "nanosec": stamp_ns % SECOND}
    return {"stamp": stamp, "frame_id": frame_id}


def transforms(edges: Iterable[Edge]) -> Fields:
    """tf2_msgs/TFMessage."""
    return {
        "transforms": [
            {
                "header": header(edge.stamp_ns, edge.parent),
                "child_frame_id": edge.child,
                "transform": {
                    "translation": dict(zip("xyz", edge.pose[:3], strict=True)),
                    "rotation": dict(zip("xyzw", edge.pose[3:], strict=True)),
                },
            }
            for edge in edges
        ]
    }


def label_mask(label_map: LabelMap) -> Fields:
    """sensor_msgs/Image, mono8: class ids, 255 unlabelled; stamped as the reference sensor."""
    return _image(label_map.ids, "mono8", label_map)


def confidence(label_map: LabelMap) -> Fields:
    """sensor_msgs/Image, mono8: probability of the winning class, 0..255."""
    return _image(label_map.confidence, "mono8", label_map)


def drawn(picture: NDArray[np.uint8], label_map: LabelMap) -> Fields:
    """sensor_msgs/Image, rgb8, of a drawn picture (H, W, 3) uint8 RGB, such as `draw.overlay`'s."""
    return _image(_rgb(picture), "rgb8", label_map)


def compressed_overlay(
    picture: NDArray[np.uint8], label_map: LabelMap, *, quality: int = 80
) -> Fields:
    """sensor_msgs/CompressedImage, jpeg, of a drawn picture (H, W, 3) uint8 RGB."""
    bgr = np.ascontiguousarray(_rgb(picture)[..., ::-1])
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return {
        "header": header(label_map.stamp_ns, label_map.frame_id),
        "format": "rgb8; jpeg compressed bgr8",  # image_transport's words
        "data": data.reshape(-1),
    }


def camera_info(label_map: LabelMap) -> Fields | None:
    """sensor_msgs/CameraInfo of a mask's own pixels: the camera's, resized as the mask is.

    P's fourth column is zero: an optical frame has its origin in its own camera, and TF knows of
    the other one of a stereo pair. None: nothing is known of the lens.
    """
    scene: Scene | None = label_map.scene
    if scene is None or scene.camera is None:
        return None
    camera = scene.camera.scaled(*label_map.ids.shape)
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    px, py, center_x, center_y = camera.p or (fx, fy, cx, cy)
    many = len(camera.distortion) > _PLUMB_BOB
    model = "equidistant" if camera.fisheye else "rational_polynomial" if many else "plumb_bob"
    count = 4 if camera.fisheye else 8 if many else _PLUMB_BOB
    return {
        "header": header(label_map.stamp_ns, label_map.frame_id),
        "height": camera.height,
        "width": camera.width,
        "distortion_model": model,
        "d": [*camera.distortion, *[0.0] * (count - len(camera.distortion))],
        "k": [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        "r": camera.rotation or camera.r or np.eye(3).ravel(),
        "p": [px, 0.0, center_x, 0.0, 0.0, py, center_y, 0.0, 0.0, 0.0, 1.0, 0.0],
    }


def label_info(spec: ModelSpec, stamp_ns: int) -> Fields:
    """vision_msgs/LabelInfo: what the ids of a mask mean. No pixel is left out for doubt."""
    names = [*enumerate(spec.classes), (IGNORE, UNLABELED)]
    return {
        "header": header(stamp_ns, ""),
        "class_map": [{"class_id": id_, "class_name": name} for id_, name in names],
        "threshold": 0.0,
    }


class Account(NamedTuple):
    """What a live node adds to the status of a mask."""

    warning: str
    """That it is overloaded; empty: it is not."""
    values: Mapping[str, Any]


def account(
    taken: Mapping[str, float], of_late: Mapping[str, Mapping[str, float]], load: Load
) -> Account:
    """The `latency.parts` of this mask, their percentiles of late, and what is behind."""
    values: Fields = {f"latency_ms.{part}": f"{ms:.3f}" for part, ms in taken.items()}
    if taken:  # `total` is the step's, as in a replay
        values["latency_ms.stamp_to_publish"] = values.pop("latency_ms.total")
    for quantile, parts in of_late.items():
        values |= {f"{quantile}_ms.{part}": f"{ms:.3f}" for part, ms in parts.items()}
    return Account(load.text, values | load_values(load))


def load_values(load: Load) -> Fields:
    """How far behind a node is, key by key."""
    return {
        "overloaded": load.overloaded,
        **{f"backlog_ms.{name}": f"{ms:.1f}" for name, ms in load.backlog_ms.items()},
        **{f"lost.{name}": count for name, count in load.lost.items()},
        "overtaken_hz": f"{load.overtaken_hz:.1f}",
        "shed": " ".join(load.shed),
    }


def status(
    label_map: LabelMap, spec: ModelSpec, node: str = NODE, more: Account | None = None
) -> Fields:
    """diagnostic_msgs/DiagnosticArray with the mask's own stamp: who made it, and what is wrong.

    One status per stream, or modality, of `spec` (`robustseg: rgb`), and `robustseg: mask` for the
    whole; in a namespace `front/robustseg: rgb`, as `node` (a node's full name) says. A live node
    has `more` to say of the mask.
    """
    statuses = []
    for name in label_map.streams(spec.modalities):
        used = name in label_map.used
        state = label_map.states.get(name, State.DISABLED)
        reasons = label_map.reasons.get(name, ())
        level = OK if _acknowledged(reasons) else _LEVEL[state]
        if not used and state.usable:  # alive, and yet too late or rejected for this mask
            level = max(level, WARN)
        values: Fields = {"state": state.value, "used": used}
        if name in label_map.held_ms:
            values["held_ms"] = f"{label_map.held_ms[name]:.3f}"
        if reasons:
            values["reason"] = sentence(reasons)
            values |= _pairs(reasons)
        text = fate(sentence(reasons), used=used) or "not used"
        statuses.append(of_node(node, name, level, text, values))
    statuses.append(_mask_status(label_map, spec, node, more))
    return {"header": header(label_map.stamp_ns, label_map.frame_id), "status": statuses}


def fate(reason: str, *, used: bool) -> str:
    """What became of a sensor in a mask, for people: used, why not, or used and yet in doubt."""
    return "; ".join(filter(None, ["used" if used else "", reason]))


def _pairs(findings: tuple[Finding, ...]) -> Fields:
    """Findings key by key, so that nobody has to read the sentence `reason`: the text of each under
    `reason.<fault>`, its numbers as they are there under `reason.<fault>.value`, `.limit` and
    `.unit`, and the faults that are fatal under `fatal`.
    """
    pairs: Fields = {}
    for finding in findings:
        key = f"{REASON}.{finding.fault.value}"
        if key in pairs:
            continue  # of two of one fault, the stronger one is told
        pairs[key] = finding.text
        numbers = {"value": finding.value, "limit": finding.limit}
        told = {f"{key}.{what}": repr(float(n)) for what, n in numbers.items() if n is not None}
        pairs |= told | ({f"{key}.unit": finding.unit} if told and finding.unit else {})
    if fatal := [finding.fault.value for finding in findings if finding.fatal]:
        pairs["fatal"] = " ".join(fatal)
    return pairs


def _findings(values: Mapping[str, str]) -> tuple[Finding, ...]:
    """What `_pairs` wrote; how much quality a finding leaves is not sent."""
    fatal, below = values.get("fatal", "").split(), f"{REASON}."
    told = {k.removeprefix(below): text for k, text in values.items() if k.startswith(below)}

    def number(key: str) -> float | None:
        return float(told[key]) if key in told else None

    return tuple(
        Finding(
            Fault(word),
            fatal=word in fatal,
            text=text,
            value=number(f"{word}.value"),
            limit=number(f"{word}.limit"),
            unit=told.get(f"{word}.unit", ""),
        )
        for word, text in told.items()
        if "." not in word
    )


def read_status(message: Any) -> Fields:
    """What `status` wrote, read back from a message: the fields of a `LabelMap`, as they are there;
    `used` is a list, and states are words.
    """
    row: Fields = {"stamp_ns": nanoseconds(message.header.stamp)}
    row |= {"used": [], "reasons": {}, "states": {}, "held_ms": {}, "latency_ms": {}}
    for status in message.status:
        name = part_of(status.name)[1]
        values = {pair.key: pair.value for pair in status.values}
        if name == "mask":
            stages = {key: value for key, value in values.items() if key.startswith("latency_ms.")}
            row["latency_ms"] = {k.partition(".")[2]: float(v) for k, v in stages.items()}
            continue
        row["states"][name] = values["state"]
        if values["used"] == "true":
            row["used"].append(name)
            row["held_ms"][name] = float(values.get("held_ms", 0.0))
        if reasons := _findings(values):
            row["reasons"][name] = reasons
    return row


def health(healths: Mapping[str, Health], stamp_ns: int, node: str = NODE) -> Fields:
    """diagnostic_msgs/DiagnosticArray for /diagnostics: the monitor's opinion of every stream.

    Named as in `status`. The first, `robustseg: sensors`, is OK with all enabled streams LIVE, WARN
    with some of them, ERROR with none usable; a stream that waits within its grace at the start
    does no harm, and nothing but such streams is a WARN. One that is acknowledged as dead counts no
    more than one that is off.
    """
    statuses = []
    for name, stream in healths.items():
        rejected = {f"rejected_{fault.value}": count for fault, count in stream.rejected.items()}
        values: Fields = {
            "state": stream.state.value,
            "reason": stream.reason,
            "rate_hz": "" if stream.rate_hz is None else f"{stream.rate_hz:.3g}",
            "age_ms": "" if stream.age_ms is None else f"{stream.age_ms:.1f}",
            "score": f"{stream.score:.2f}",
            "received": stream.received,
            "rejected": sum(stream.rejected.values()),
        }
        text = ": ".join(filter(None, (stream.state.value, stream.reason)))
        values |= rejected | _pairs(stream.findings)
        statuses.append(of_node(node, name, _level(stream), text, values))
    overall = _overall(healths, node)
    return {"header": header(stamp_ns, ""), "status": [overall, *statuses]}


def read_health(message: Any, node: str = NODE) -> dict[str, Health]:
    """State and findings of every stream, of what `health` wrote for this node."""
    found = {}
    for status in message.status:
        whose, name = part_of(status.name)
        values = {pair.key: pair.value for pair in status.values}
        if whose == node and "state" in values:
            found[name] = Health(State(values["state"]), _findings(values))
    return found


def of_node(node: str, part: str, level: int, message: str, values: Mapping[str, Any]) -> Fields:
    """diagnostic_msgs/DiagnosticStatus of a part of a node: a modality, mask, sensors, or node.

    The name says which node by its full name, so that no two robots or cameras share one: without
    the first slash, as diagnostic_aggregator compares names. `hardware_id` is the full name.
    """
    full = f"/{node.strip('/')}"
    return {
        "level": level,
        "name": f"{full[1:]}: {part}",
        "message": message,
        "hardware_id": full,
        "values": [{"key": key, "value": _word(value)} for key, value in values.items()],
    }


def part_of(name: str) -> tuple[str, str]:
    """(node, part) of a status' name, as `of_node` made it."""
    node, _, part = name.partition(": ")
    return node, part


def to_rosbags(msgtype: str, fields: Mapping[str, Any]) -> Any:
    """The rosbags message of `fields`; fields that are not named are zero or empty.

    Raises:
        RobustsegError: a type or a field that does not exist.
    """
    store = typestore()
    if msgtype not in store.types:
        raise RobustsegError(f"unknown message type {msgtype!r}; {_similar(msgtype)}")
    described = dict(store.fielddefs[msgtype][1])
    if strange := set(fields) - set(described):
        name = min(strange)
        raise RobustsegError(f"{msgtype} has no field {name!r}; {did_you_mean(name, described)}")
    values = {name: _value(what, fields.get(name)) for name, what in described.items()}
    return store.types[msgtype](**values)


def _image(array: NDArray[np.uint8], encoding: str, label_map: LabelMap) -> Fields:
    height, width = array.shape[:2]
    return {
        "header": header(label_map.stamp_ns, label_map.frame_id),
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": array[0].nbytes if height else 0,
        "data": np.ascontiguousarray(array).reshape(-1),
    }


def _rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise RobustsegError(
            f"picture is {picture.dtype} {picture.shape}; expected uint8 (H, W, 3) RGB"
        )
    return picture


def _mask_status(label_map: LabelMap, spec: ModelSpec, node: str, more: Account | None) -> Fields:
    absent = [n for n in label_map.streams(spec.modalities) if n not in label_map.used]
    off = [
        name
        for name in absent
        if label_map.states.get(name) is State.DISABLED
        or _acknowledged(label_map.reasons.get(name, ()))
    ]
    text = f"made of {' '.join(label_map.used)}" if label_map.used else "no sensor was usable"
    level = OK if len(absent) == len(off) else WARN
    if not spec.trained:
        level, text = WARN, f"{text}; the weights are untrained: labels mean nothing"
    values: Fields = {
        "used": " ".join(label_map.used),
        "trained": spec.trained,
        "provenance": spec.provenance,
    }
    values |= {f"latency_ms.{stage}": f"{ms:.3f}" for stage, ms in label_map.latency_ms.items()}
    if more is not None:
        values |= more.values
        if more.warning:
            level, text = max(level, WARN), f"{text}; {more.warning}"
    return of_node(node, "mask", level if label_map.used else ERROR, text, values)


def _acknowledged(findings: Iterable[Finding]) -> bool:
    """Whether somebody has said that this sensor is dead: no alarm."""
    return any(finding.fault is Fault.ACKNOWLEDGED for finding in findings)


def _level(stream: Health) -> int:
    if _acknowledged(stream.findings):
        return OK
    if stream.state is State.WAITING:  # never seen is fatal once the grace is over
        return WARN if any(finding.fatal for finding in stream.findings) else OK
    warned = any(finding.fault in _WARNED for finding in stream.findings)
    return max(_LEVEL[stream.state], WARN if warned else OK)


def _overall(healths: Mapping[str, Health], node: str) -> Fields:
    known = [name for name, stream in healths.items() if _acknowledged(stream.findings)]
    enabled = {
        name: stream
        for name, stream in healths.items()
        if stream.state is not State.DISABLED and name not in known
    }
    usable = [name for name, stream in enabled.items() if stream.state.usable]
    bad = [name for name, stream in enabled.items() if _level(stream) != OK]
    waiting = [n for n, s in enabled.items() if s.state is State.WAITING and n not in bad]
    starting = not usable and waiting and not bad
    level = OK if usable and not bad else WARN if usable or starting else ERROR
    text = f"{len(usable)} of {len(enabled)} sensors usable"
    text += f"; not well: {', '.join(bad)}" if bad else ""
    text += f"; waiting for: {', '.join(waiting)}" if waiting else ""
    text += f"; acknowledged as dead: {', '.join(known)}" if known else ""
    return of_node(node, "sensors", level, text, {"usable": " ".join(usable)})


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(description: Any, value: Any) -> Any:
    """`value` (None: the zero of its kind) as rosbags keeps a field of this description."""
    kind, content = description
    if kind == Nodetype.NAME:
        return to_rosbags(content, value or {})
    if kind == Nodetype.BASE:
        zero = _zero(content[0])
        return zero if value is None else type(zero)(value)
    (element, length) = content
    if element[0] == Nodetype.BASE and element[1][0] != "string":
        count = length if kind == Nodetype.ARRAY else 0
        dtype = _dtype(element[1][0])
        return np.zeros(count, dtype) if value is None else np.asarray(value, dtype).reshape(-1)
    return [_value(element, each) for each in value or ()]


@cache
def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype({"byte": "uint8", "char": "uint8", "octet": "uint8"}.get(name, name))


@cache
def _zero(name: str) -> Any:
    return "" if name == "string" else _dtype(name).type(0).item()


def _similar(msgtype: str) -> str:
    return did_you_mean(msgtype, typestore().types)
