"""Point clouds of any layout, against a reader that unpacks one number at a time."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.codecs.points import decode_points
from robustseg_core.types import Fault, Rejection
from support.makers import cloud, make, xyz
from support.twins import both

RNG = np.random.default_rng(11)
CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


def slowly(message, name: str) -> list[float]:
    """One field, point by point."""
    (field,) = (f for f in message.fields if f.name == name)
    form = (">" if message.is_bigendian else "<") + CODES[field.datatype]
    data = bytes(message.data)
    return [
        struct.unpack_from(
            form, data, r * message.row_step + c * message.point_step + field.offset
        )[0]
        for r in range(message.height)
        for c in range(message.width)
    ]


def table(layout, count: int = 24) -> np.ndarray:
    points = np.zeros(count, layout)
    for name in points.dtype.names:
        kind = points.dtype[name].base.kind
        values = RNG.uniform(1, 100, points[name].shape)
        points[name] = values if kind == "f" else values.astype(int)
    return points


OUSTER = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("intensity", "<f4"),
        ("t", "<u4"),
        ("reflectivity", "<u2"),
        ("ring", "u1"),
        ("noise", "<u2"),
        ("range", "<u4"),
    ]
)
LAYOUTS = {
    "velodyne": [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")],
    "ouster, 29 bytes, unaligned": OUSTER,
    "shuffled doubles": [("i", "<u2"), ("z", "<f8"), ("q", "u1"), ("y", "<f8"), ("x", "<f8")],
    "big-endian": [("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("remission", ">u2")],
    "integers": [("x", "<i2"), ("y", "i1"), ("z", "<i4"), ("laser_id", "u1")],
    "array field": [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4", (3,))],
    "padded points": {
        "names": ["x", "y", "z", "ring"],
        "formats": ["<f4", "<f4", "<f4", "<u2"],
        "offsets": [3, 16, 8, 21],
        "itemsize": 40,
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(("height", "padding"), [(1, 0), (4, 0), (4, 13)])
def test_every_layout_reads_as_a_slow_reader_reads_it(name, height: int, padding: int) -> None:
    message = cloud(table(np.dtype(LAYOUTS[name])), height=height, row_padding=padding)
    for made in both(message):
        read = decode_points(made)
        assert read.total == 24
        assert read.xyz.shape == (24, 3)
        assert read.xyz.dtype == np.float32
        for column, axis in zip(read.xyz.T, "xyz", strict=True):
            np.testing.assert_allclose(column, slowly(message, axis), rtol=1e-6)
        names = [f.name for f in message.fields]
        for ours, theirs in (
            (read.intensity, {"intensity", "i", "remission"}),
            (read.ring, {"ring", "laser_id"}),
        ):
            found = theirs & set(names)
            assert (ours is not None) == bool(found)
            if found:
                np.testing.assert_allclose(ours, slowly(message, found.pop()), rtol=1e-6)


def test_rays_that_did_not_return_are_dropped_and_counted() -> None:
    points = RNG.normal(size=(10, 3))
    points[2] = 0
    points[4, 1] = np.nan
    points[7, 0] = np.inf
    points[8] = 0, 0, 1e-3
    read = decode_points(xyz(points))
    assert read.total == 10
    np.testing.assert_allclose(read.xyz, np.delete(points, [2, 4, 7], axis=0), rtol=1e-6)
    assert read.intensity is not None
    assert len(read.intensity) == 7


def test_doubles_beyond_float32_are_dropped_without_a_warning() -> None:
    points = np.ones(3, [(n, "<f8") for n in "xyz"])
    points["x"][1] = 1e300
    assert len(decode_points(cloud(points)).xyz) == 2


def test_a_cloud_without_z_names_what_it_has() -> None:
    points = np.ones(3, [("x", "<f4"), ("y", "<f4"), ("rgb", "<f4")])
    with pytest.raises(Rejection, match="no field z; it has x, y, rgb"):
        decode_points(cloud(points))


def test_an_empty_cloud_is_a_cloud() -> None:
    read = decode_points(xyz(np.empty((0, 3))))
    assert (len(read.xyz), read.total) == (0, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": np.zeros(100, np.uint8)}, "payload has 100 bytes"),
        ({"row_step": 159}, "row_step 159"),
        ({"row_step": 320}, "row_step 320"),
        ({"width": 11}, "11 points of 16 bytes"),
        ({"point_step": 15}, "point_step is 15 bytes; the fields need 16"),
        ({"point_step": 0}, "point_step is 0"),
        ({"fields": []}, "it has none at all"),
        ({"fields": None}, "fields is None"),
        ({"data": None}, "payload is a NoneType"),
    ],
)
def test_what_does_not_fit_together_is_rejected_with_the_reason(change: dict, words: str) -> None:
    message = xyz(RNG.normal(size=(10, 3)))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(Rejection) as caught:
        decode_points(message)
    assert words in str(caught.value)
    assert caught.value.finding.fault is Fault.FORMAT


@given(st.data())
def test_no_geometry_reads_out_of_bounds(data) -> None:
    number = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))
    message = xyz(RNG.normal(size=(4, 3)))
    message.fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=data.draw(number),
            datatype=data.draw(st.integers(0, 9)),
            count=data.draw(st.integers(0, 3)),
        )
        for name in ("x", "y", "z", "ring", "intensity")
    ]
    for name in ("height", "width", "point_step", "row_step"):
        setattr(message, name, data.draw(number))
    message.is_bigendian = data.draw(st.booleans())
    size = message.row_step * message.height
    message.data = np.frombuffer(
        RNG.bytes(size) if size < 4000 and data.draw(st.booleans()) else b"\x01" * 64, np.uint8
    )
    try:
        read = decode_points(message)
    except Rejection:
        return
    assert np.isfinite(read.xyz).all()
    assert len(read.xyz) <= read.total == message.height * message.width
