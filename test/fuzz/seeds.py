"""Valid messages of every kind that we take: what mutations start from."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np

from fuzz.scenery import POOL, H, W, healthy, texture
from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.events.evt3 import encode_evt3
from robustseg_core.codecs.image import FORMATS
from robustseg_core.codecs.points import decode_points
from support import drives
from support.makers import camera_info, cloud, compressed, events, image, rvl, transform

VARIANTS = 4
"""Different messages of one kind: random in content, equal in layout."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which one sensor's data comes."""

    name: str
    stream: str
    """A modality, or `camera_info`, or `tf`."""
    msgtype: str
    wires: tuple[bytes, ...]
    """CDR of valid messages."""

    def message(self, variant: int) -> Any:
        """A fresh message, whose arrays nobody shares."""
        message = typestore().deserialize_cdr(self.wires[variant % len(self.wires)], self.msgtype)
        return message


@cache
def kinds() -> tuple[Kind, ...]:
    """Every kind, always in the same order."""
    found = []
    for name, stream, make in _recipes():
        random = np.random.default_rng([*name.encode()])
        messages = [make(random) for _ in range(VARIANTS)]
        msgtype = messages[0].__msgtype__
        wires = tuple(bytes(typestore().serialize_cdr(m, msgtype)) for m in messages)
        found.append(Kind(name, stream, msgtype, wires))
    return tuple(found)


def kind_called(name: str) -> Kind:
    """The kind of that name."""
    return next(kind for kind in kinds() if kind.name == name)


def _recipes() -> Iterator[tuple[str, str, Callable[[np.random.Generator], Any]]]:
    for encoding, form in FORMATS.items():
        lines = H * form.rows[0] // form.rows[1]
        dtype = np.uint8 if form.bits == 8 else np.uint16
        yield f"image {encoding}", "rgb", _image(lines, form.channels, dtype, encoding)
    for form in ("jpeg", "png", "webp"):
        yield f"compressed {form}", "rgb", _compressed(form)
    for encoding, dtype in (("16UC1", "<u2"), ("mono16", ">u2"), ("32FC1", "<f4")):
        yield f"depth {encoding}", "depth", _depth(encoding, dtype)
    for form in (
        "16UC1; compressedDepth png",
        "16UC1; compressedDepth rvl",
        "32FC1; compressedDepth png",
        "32FC1; compressedDepth rvl",
        "png",
    ):
        yield f"depth {form}", "depth", _compressed_depth(form)
    layouts = {
        "xyzi": [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")],
        "ring": [
            ("x", "<f4"),
            ("y", "<f4"),
            ("z", "<f4"),
            ("reflectivity", "<u2"),
            ("ring", "u1"),
            ("t", "<u4"),
        ],
        "doubles": [("x", ">f8"), ("y", ">f8"), ("z", ">f8"), ("intensity", ">i4")],
    }
    for name, layout in layouts.items():
        yield f"cloud {name}", "lidar", _cloud(layout)
    yield "events vectors", "event", _events(True)
    yield "events singles", "event", _events(False)
    yield "events random words", "event", _random_events
    lenses = {
        "none": (),
        "plumb_bob": (-0.3, 0.1, 1e-3, -1e-3, 0.01),
        "equidistant": (0.1, -0.02, 0.01, 0.0),
        "rational_polynomial": (0.2, 0.1, 1e-3, 1e-3, 0.02, 0.3, 0.1, 0.01),
    }
    for name, d in lenses.items():
        yield f"camera_info {name}", "camera_info", _camera_info(name, d)
    yield "tf", "tf", _transform


def _image(lines: int, channels: int, dtype: Any, encoding: str) -> Callable[..., Any]:
    def make(random: np.random.Generator) -> Any:
        pixels = texture(random, int(random.integers(POOL)), (lines, W, channels))
        pixels = (pixels.reshape(lines, W, channels) * np.iinfo(dtype).max).astype(dtype)
        message = image(pixels, encoding)
        message.height = H
        return message

    return make


def _compressed(form: str) -> Callable[..., Any]:
    def make(random: np.random.Generator) -> Any:
        pixels = (texture(random, int(random.integers(POOL))) * 255).astype(np.uint8)
        return compressed(pixels, form=form)

    return make


def _depth(encoding: str, dtype: str) -> Callable[..., Any]:
    def make(random: np.random.Generator) -> Any:
        metres = 1 + 8 * texture(random, int(random.integers(POOL)), (H, W))
        metres[:3] = 0
        scale = 1 if dtype.endswith("f4") else 1000
        big = int(dtype.startswith(">"))
        return image((metres * scale).astype(dtype), encoding, is_bigendian=big)

    return make


def _compressed_depth(form: str) -> Callable[..., Any]:
    def make(random: np.random.Generator) -> Any:
        values = texture(random, int(random.integers(POOL)), (H // 2, W // 2))
        values = (900 + 8000 * values).astype(np.uint16)
        values[:2] = 0
        payload = rvl(values) if "rvl" in form else cv2.imencode(".png", values)[1].tobytes()
        head = struct.pack("<iff", 0, 10_100.0, -1009.0) if "compressedDepth" in form else b""
        message = compressed(np.zeros((1, 1, 3), np.uint8))
        message.format, message.data = form, np.frombuffer(head + payload, np.uint8)
        return message

    return make


def _cloud(layout: list[tuple[str, str]]) -> Callable[..., Any]:
    def make(random: np.random.Generator) -> Any:
        table = np.zeros(240, layout)
        found = healthy("lidar", int(random.integers(POOL)), 1)
        points = decode_points(found).xyz[::12]
        for axis, column in enumerate("xyz"):
            table[column] = points[:, axis]
        for name, kind in layout[3:]:
            table[name] = random.integers(0, 100, 240).astype(kind)
        return cloud(table, height=8, row_padding=int(random.integers(0, 5)))

    return make


def _events(vectors: bool) -> Callable[..., Any]:
    def make(random: np.random.Generator) -> Any:
        t_us = np.sort(random.integers(0, 25_000, 200))
        x, y = np.sort(random.integers(0, W, 200)), random.integers(0, H, 200)
        words = encode_evt3(x, y, random.integers(0, 2, 200), t_us, vectors=vectors)
        return events(words, height=H, width=W)

    return make


def _random_events(random: np.random.Generator) -> Any:
    words = np.concatenate([[0x8001, 0x6001, 0x0003], random.integers(0, 1 << 16, 300)])
    return events(words, height=480, width=640)


def _camera_info(model: str, d: tuple[float, ...]) -> Callable[..., Any]:
    def make(random: np.random.Generator) -> Any:
        message = camera_info(H, W, fx=float(random.uniform(40, 90)), d=d, model=model)
        if random.random() < 0.5:
            message.roi = replace(message.roi, height=H // 2, width=W // 2, x_offset=8, y_offset=8)
        return message

    return make


def _transform(random: np.random.Generator) -> Any:
    pose = tuple(random.uniform(-2, 2, 3).tolist())
    message = transform("camera", "lidar", pose, drives.OPTICAL)
    more = transform("camera", "event_camera", pose, (0.0, 0.0, 0.1, 0.9))
    message.transforms += more.transforms
    return message
