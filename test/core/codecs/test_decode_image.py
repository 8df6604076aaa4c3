"""Raw and compressed images against slow references written from the definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.codecs.image import FORMATS, decode_compressed, decode_image
from robustseg_core.types import Fault, Rejection
from support.makers import compressed, image
from support.twins import both

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
HIGH = RNG.integers(0, 65536, (6, 8, 3), np.uint16)
ALPHA = np.full((6, 8, 1), 77, np.uint8)
GRAY = RGB[..., :1].repeat(3, axis=2)


def channels(encoding: str) -> tuple[np.ndarray, np.ndarray]:
    """(payload, expected RGB) of the encodings that only order channels."""
    deep = encoding.endswith("16") or encoding == "16UC1"
    source = HIGH if deep else RGB
    expected = (source >> 8).astype(np.uint8) if deep else source
    alpha = np.full((6, 8, 1), 9, source.dtype)
    if "mono" in encoding or encoding.endswith("UC1"):
        return source[..., 0], expected[..., :1].repeat(3, axis=2)
    payload = source if encoding.startswith("rgb") else source[..., ::-1]
    if "a" in encoding or encoding == "8UC4":
        payload = np.concatenate([payload, alpha], axis=2)
    return payload, expected


ORDERED = [n for n in FORMATS if not n.startswith(("bayer", "yuv", "uyvy", "yuyv", "nv"))]


@pytest.mark.parametrize("encoding", ORDERED)
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("big", [0, 1])
def test_every_channel_order_becomes_rgb(encoding: str, padding: int, big: int) -> None:
    payload, expected = channels(encoding)
    if big and payload.dtype == np.uint16:
        payload = payload.astype(">u2")
    message = image(payload, encoding, is_bigendian=big)
    rows = message.data.reshape(6, -1)
    message.data = np.pad(rows, ((0, 0), (0, padding)), constant_values=99).reshape(-1)
    message.step = rows.shape[1] + padding
    for made in both(message):
        np.testing.assert_array_equal(decode_image(made), expected)


def test_an_rgb_image_is_read_where_it_lies() -> None:
    message = image(RGB, "rgb8")
    assert np.shares_memory(decode_image(message), message.data)
    for made in both(message):
        assert not decode_image(made).flags.owndata


def demosaic(raw: np.ndarray, pattern: str) -> np.ndarray:
    """Bilinear interpolation, pixel by pixel: the mean of the nearest samples of each color."""
    h, w = raw.shape
    out = np.zeros((h, w, 3))
    for r in range(h):
        for c in range(w):
            for channel, color in enumerate("rgb"):
                near: dict[int, list[float]] = {}
                for dr in (-1, 0, 1):
                    for dc in (-1, 0, 1):
                        rr, cc = r + dr, c + dc
                        inside = 0 <= rr < h and 0 <= cc < w
                        if inside and pattern[2 * (rr % 2) + cc % 2] == color:
                            near.setdefault(dr * dr + dc * dc, []).append(float(raw[rr, cc]))
                out[r, c, channel] = np.mean(near[min(near)])
    return out


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns_are_read_as_ros_names_them(pattern: str, bits: int) -> None:
    raw = RNG.integers(0, 2**bits, (12, 16)).astype(f"u{bits // 8}")
    decoded = decode_image(image(raw, f"bayer_{pattern}{bits}"))
    expected = demosaic(raw >> (bits - 8), pattern)
    inner = np.s_[1:-1, 1:-1]  # OpenCV repeats the rim
    np.testing.assert_allclose(decoded[inner], expected[inner], atol=1)


def bt601(y: float, u: float, v: float) -> np.ndarray:
    """ITU-R BT.601, studio range."""
    y, u, v = 255 / 219 * (y - 16), 255 / 224 * (u - 128), 255 / 224 * (v - 128)
    rgb = [y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u]
    return np.clip(np.array(rgb), 0, 255)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv_layouts_follow_bt601(encoding: str) -> None:
    h, w = 4, 6
    luma = RNG.integers(16, 236, (h, w))
    chroma = RNG.integers(64, 192, (2, h, w // 2))  # u, v
    if encoding.startswith("nv"):
        chroma = chroma[:, : h // 2].repeat(2, axis=1)
        pair = chroma[:, ::2] if encoding == "nv12" else chroma[::-1, ::2]
        plane = np.stack(list(pair), axis=-1).reshape(h // 2, w)
        payload = np.concatenate([luma, plane]).astype(np.uint8)
    else:
        first = np.stack([chroma[0], luma[:, ::2], chroma[1], luma[:, 1::2]], axis=-1)
        swapped = np.stack([luma[:, ::2], chroma[0], luma[:, 1::2], chroma[1]], axis=-1)
        payload = (first if encoding in ("yuv422", "uyvy") else swapped).reshape(h, 2 * w)
        payload = payload.astype(np.uint8)
    message = image(payload, encoding, width=w)
    message.height = h
    decoded = decode_image(message)
    for r in range(h):
        for c in range(w):
            expected = bt601(luma[r, c], chroma[0, r, c // 2], chroma[1, r, c // 2])
            np.testing.assert_allclose(decoded[r, c], expected, atol=2)


def test_nv12_may_also_spread_its_chroma_over_the_rows_of_the_image() -> None:
    payload = RNG.integers(16, 236, (6, 6), np.uint8)  # 4 rows of luma, 2 of chroma
    message = image(payload, "nv12")
    message.height, expected = 4, None
    expected = decode_image(message)
    message.step = 9
    np.testing.assert_array_equal(decode_image(message), expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "32FC1"}, "unsupported encoding '32FC1'; supported: rgb8"),
        ({"height": 0}, "0x8"),
        ({"step": 23}, "a row of 8 pixels needs 24"),
        ({"height": 7}, "payload has 144 bytes"),
        ({"width": 2**31}, "step is 24"),
        ({"data": np.zeros(143, np.uint8)}, "payload has 143 bytes"),
        ({"data": None}, "payload is a NoneType"),
        ({"data": "text"}, "payload is a str"),
        ({"encoding": None}, "encoding is None"),
        ({"height": -1}, "height is -1"),
        ({"encoding": "bayer_rggb8", "width": 7}, "must divide by 2 and 2"),
    ],
)
def test_what_does_not_fit_together_is_rejected_with_the_reason(change: dict, words: str) -> None:
    message = image(RGB, "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(Rejection) as caught:
        decode_image(message)
    assert words in str(caught.value)
    assert caught.value.finding.fault is Fault.FORMAT


@given(
    encoding=st.sampled_from(list(FORMATS)),
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    step=st.integers(0, 40),
    data=st.binary(max_size=400),
    exact=st.booleans(),
)
def test_no_geometry_reads_out_of_bounds(encoding, height, width, step, data, exact) -> None:
    message = image(RGB, encoding, step=step)
    message.height, message.width = height, width
    message.data = np.frombuffer(data, np.uint8)
    if exact:  # sizes that agree must decode
        lines = height * 3 // 2 if encoding.startswith("nv") else height
        message.data = (
            np.resize(message.data, step * lines) if data else np.zeros(step * lines, "u1")
        )
    try:
        decoded = decode_image(message)
    except Rejection:
        return
    assert decoded.shape == (height, width, 3)
    assert decoded.dtype == np.uint8


SMOOTH = cv2.resize(RNG.integers(0, 256, (4, 5, 3), np.uint8), (64, 48))


@pytest.mark.parametrize(("form", "tolerance"), [("png", 0), ("jpeg", 12), ("webp", 12)])
def test_compressed_images_come_out_as_rgb(form: str, tolerance: int) -> None:
    message = compressed(SMOOTH[..., ::-1].copy(), form=form)
    for made in both(message):
        decoded = decode_compressed(made)
        assert np.abs(decoded.astype(int) - SMOOTH).mean() <= tolerance


def test_the_transport_says_when_red_and_blue_are_exchanged() -> None:
    message = compressed(SMOOTH[..., ::-1].copy(), form="png")
    message.format = "rgb8; png compressed bgr8"
    np.testing.assert_array_equal(decode_compressed(message), SMOOTH)
    message.format = "rgb8; png compressed rgb8"
    np.testing.assert_array_equal(decode_compressed(message), SMOOTH[..., ::-1])


def test_gray_and_deep_pictures_become_rgb_too() -> None:
    for array in (SMOOTH[..., 0], SMOOTH[..., 0].astype(np.uint16) << 8):
        decoded = decode_compressed(compressed(array, form="png"))
        np.testing.assert_array_equal(decoded, SMOOTH[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_a_truncated_picture_is_rejected_not_half_gray(form: str, share: float) -> None:
    noise = RNG.integers(0, 256, (48, 64, 3), np.uint8)
    message = compressed(noise, form=form)
    message.data = message.data[: int(len(message.data) * share)]
    with pytest.raises(Rejection):
        decode_compressed(message)


def test_depth_given_to_the_camera_names_the_way_out() -> None:
    message = compressed(SMOOTH)
    message.format = "16UC1; compressedDepth png"
    with pytest.raises(Rejection, match="give this topic to `depth`"):
        decode_compressed(message)
