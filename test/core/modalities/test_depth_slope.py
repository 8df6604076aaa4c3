"""Depth's third channel as the slope of a pixel's ray, and what a network makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.view import View
from robustseg_core.modalities.depth import Depth
from robustseg_core.models.architectures.swift import _relief
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.types import Reading
from support.makers import camera_info

SIZE = (24, 32)


def lens_of(focal: float, middle: float = 23.5) -> object:
    """Of an image of 48x64 pixels, with its middle in row `middle`."""
    message = camera_info(48, 64, fx=focal)
    message.k[5] = message.p[6] = middle
    return message


def view(*lens: float) -> View:
    made = View(SIZE)
    if lens:
        made.set_camera_info("rgb", lens_of(*lens))
    return made


def shown(depth_m: np.ndarray, seen: View, **options: object) -> np.ndarray:
    depth = Depth(encoding={"slope": True, **options})
    return depth.encode([Reading("depth", 0, "camera", depth_m)], seen, 0)


@given(st.floats(30, 90), st.floats(10, 40), st.floats(0.6, 30))
def test_slope_times_depth_is_how_far_below_the_camera_a_point_lies(focal, middle, depth_m):
    """Points at those places project to the rows that they were seen in."""
    near, again, slope = shown(np.full((48, 64), depth_m, np.float32), view(focal, middle))
    np.testing.assert_allclose(near, 0.5 / depth_m, rtol=1e-5)
    np.testing.assert_array_equal(near, again)
    lens = Camera.from_message(lens_of(focal, middle)).scaled(*SIZE)
    places = np.stack([0 * slope, slope * depth_m, 0 * slope + depth_m], -1).reshape(-1, 3)
    _, rows, _, index = lens.project(places)
    np.testing.assert_allclose(rows, np.repeat(np.arange(SIZE[0]), SIZE[1])[index], atol=1e-3)


def test_where_nothing_is_measured_there_is_no_slope():
    depth_m = np.full((48, 64), 3, np.float32)
    depth_m[:24] = np.nan
    for seen in (view(), view(60.0)):
        array = shown(depth_m, seen)
        assert not array[:, : SIZE[0] // 2].any() and array[2, SIZE[0] // 2 :].all()


def test_without_calibration_the_lens_is_as_wide_as_its_focal_length():
    slope = shown(np.full((48, 64), 3, np.float32), view())[2]
    np.testing.assert_allclose(slope[:, 5], (np.arange(24) - 11.5) / 32, atol=1e-6)


def test_inverse_depth_alone_is_what_it_was():
    depth_m = np.linspace(0.3, 40, 48 * 64, dtype=np.float32).reshape(48, 64)
    array = shown(depth_m, view(60.0), slope=False)
    assert np.array_equal(array[0], array[1]) and np.array_equal(array[0], array[2])


@pytest.mark.parametrize("name", sorted(Depth.corruptions))
def test_a_broken_image_has_the_slopes_of_its_pixels_or_none(name):
    depth = Depth(encoding={"slope": True})
    depth_m = np.random.default_rng(0).uniform(1, 30, (48, 64)).astype(np.float32)
    array = shown(depth_m, view(60.0))
    found = Depth.corruptions[name]
    broken = found.apply(array.copy(), found.worst, np.random.default_rng(1), depth.encoding)
    assert broken.shape == array.shape and broken.dtype == np.float32
    if name not in ("gaussian_noise", "wrong_calibration"):  # every element; all that is seen
        known = broken[2] != 0
        np.testing.assert_array_equal(broken[2][known], array[2][known])


def test_the_ground_has_one_height_wherever_it_lies():
    """Of a plane 1.5 m below the camera; and what is unknown is nothing."""
    slope = torch.linspace(0.05, 0.5, 64).reshape(1, 1, 1, -1)
    depth_m = 1.5 / slope
    near = 0.5 / depth_m
    near[..., :8] = 0
    rows = torch.cat([near, near, slope * (near > 0)], 1)
    seen = _relief(rows, 0.5)
    torch.testing.assert_close(seen[:, 2, :, 8:], torch.full((1, 1, 56), -1.5 / 4))
    assert not seen[..., :8].any()
    assert (seen[:, 1].diff()[..., 9:] <= 0).all() and seen.abs().max() <= 1


def test_a_network_that_wants_slopes_says_so():
    asked = {"architecture": "swift", "fusion": "trust", "stem": "per_modality", "size": (32, 64)}
    spec = default_spec(("rgb", "depth"), options={"height": True}, **asked)
    with pytest.raises(RobustsegError, match=r"depth is encoded without slopes; extract with"):
        untrained(spec)
    told = {**spec.encodings, "depth": {**spec.encodings["depth"], "slope": True}}
    model = untrained(spec.model_copy(update={"encodings": told}))
    inputs = {"rgb": torch.randn(1, 3, 32, 64), "depth": torch.rand(1, 3, 32, 64)}
    alive = torch.tensor([[True, True]])
    with torch.inference_mode():
        seen = model(inputs, alive).logits
        torch.testing.assert_close(model.folded()(inputs, alive).logits, seen, atol=1e-4, rtol=1e-4)
