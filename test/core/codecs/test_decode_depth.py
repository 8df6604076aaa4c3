"""Depth in every coat that ROS puts on it; RVL against an encoder written from the paper."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.types import Fault, Rejection
from support.makers import compressed, image, rvl
from support.twins import both

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(3)
MM = RNG.integers(200, 9000, (12, 16)).astype(np.uint16)
MM[2:4, 3:9] = 0
MM[5, 5] = 65535
METRES = np.where((MM == 0) | (MM == 65535), np.nan, MM / 1000).astype(np.float32)


def transported(payload: bytes, form: str, a: float = 0.0, b: float = 0.0):
    message = compressed(np.zeros((2, 2, 3), np.uint8))
    message.format = form
    message.data = np.frombuffer(struct.pack("<iff", 0, a, b) + payload, np.uint8)
    return message


def png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def raw_messages():
    yield "millimetres", image(MM, "16UC1")
    yield "mono16", image(MM, "mono16")
    yield "big-endian mm", image(MM.astype(">u2"), "16UC1", is_bigendian=1)
    yield "metres", image(METRES, "32FC1")
    yield "big-endian m", image(METRES.astype(">f4"), "32FC1", is_bigendian=1)
    padded = image(np.pad(MM, ((0, 0), (0, 3)), constant_values=7), "16UC1", width=16)
    yield "padded", padded
    yield "transport png", transported(png(MM), "16UC1; compressedDepth")
    yield "transport png 2", transported(png(MM), "16UC1; compressedDepth png")
    yield "transport rvl", transported(rvl(MM), "16UC1; compressedDepth rvl")
    plain = compressed(MM, form="png")
    yield "plain png", plain
    named = compressed(MM, form="png")
    named.format = "16UC1; png compressed "
    yield "named png", named


@pytest.mark.parametrize(("name", "message"), list(raw_messages()), ids=lambda v: str(v)[:16])
def test_every_coat_gives_the_same_metres(name: str, message) -> None:
    for made in both(message):
        depth_m = decode_depth(made)
        assert depth_m.dtype == np.float32
        np.testing.assert_allclose(depth_m, METRES, rtol=1e-6)


def test_metres_that_are_no_distance_are_invalid() -> None:
    depth_m = decode_depth(image(np.array([[1, 0, -1, np.inf, -np.inf, np.nan]], "f4"), "32FC1"))
    np.testing.assert_array_equal(np.isnan(depth_m), [[False] + [True] * 5])


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_quantized_float_depth_comes_back_within_its_quantization(codec: str) -> None:
    quantization, farthest_m = 100.0, 10.0
    a = quantization * (quantization + 1)
    b = 1 - a / farthest_m
    depth = RNG.uniform(0.5, 9.5, (8, 9))
    values = np.floor(a / depth + b).astype(np.uint16)
    values[0, :3] = 0
    payload = png(values) if codec == "png" else rvl(values)
    depth_m = decode_depth(transported(payload, f"32FC1; compressedDepth {codec}", a, b))
    assert np.isnan(depth_m[0, :3]).all()
    values[0, :3] = 1000
    nearer, farther = a / (values + 1.0 - b), a / (values - b)
    good = ~np.isnan(depth_m)
    np.testing.assert_allclose(depth_m[good], farther[good], rtol=1e-5)
    assert (depth_m[good] >= nearer[good]).all()


@given(
    arrays(
        np.uint16,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.one_of(st.just(0), st.integers(0, 65535)),
    )
)
def test_rvl_round_trip_is_lossless(values: np.ndarray) -> None:
    depth_m = decode_depth(transported(rvl(values), "16UC1; compressedDepth rvl"))
    np.testing.assert_array_equal(depth_m, decode_depth(image(values, "16UC1")))


@given(
    st.binary(max_size=120),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["16UC1", "32FC1"]),
)
def test_random_rvl_bytes_are_decoded_or_rejected(
    noise: bytes, width: int, height: int, kind: str
) -> None:
    payload = struct.pack("<II", width, height % 50 if height % 3 else height) + noise
    try:
        depth_m = decode_depth(transported(payload, f"{kind}; compressedDepth rvl", 1.0, 0.5))
    except Rejection as rejection:
        assert rejection.finding.fault is Fault.FORMAT
    else:
        assert depth_m.shape[1] == width
        assert not np.isinf(depth_m).any()


def test_an_rvl_image_that_breaks_off_says_where() -> None:
    with pytest.raises(Rejection, match=r"breaks off after \d+ of 192 pixels"):
        decode_depth(transported(rvl(MM)[:-20], "16UC1; compressedDepth rvl"))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (image(np.zeros((2, 2, 3), "u1"), "rgb8"), "unsupported depth encoding 'rgb8'"),
        (transported(b"", "16UC1; compressedDepth png"), "0 bytes"),
        (transported(png(MM), "8UC1; compressedDepth png"), "unsupported depth format"),
        (transported(png(np.zeros((2, 2, 3), "u1")), "16UC1; compressedDepth"), "one 16-bit"),
        (transported(png(MM)[:90], "16UC1; compressedDepth png"), "truncated"),
        (compressed(np.zeros((4, 4, 3), np.uint8), form="jpeg"), "one 16-bit"),
        (image(MM, "16UC1", step=30), "a row of 16 pixels needs 32"),
    ],
)
def test_what_is_no_depth_is_rejected_with_the_reason(message, words: str) -> None:
    with pytest.raises(Rejection) as caught:
        decode_depth(message)
    assert words in str(caught.value)


def test_a_header_without_its_picture_is_rejected() -> None:
    message = transported(b"", "16UC1; compressedDepth rvl")
    message.data = message.data[:5]
    with pytest.raises(Rejection, match="its header has 12"):
        decode_depth(message)
