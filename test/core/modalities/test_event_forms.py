"""Histogram, time surface and voxel grid against loops over single events."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.view import View
from robustseg_core.modalities import channels_of
from robustseg_core.modalities.event import Event
from robustseg_core.models.checkpoint import channels_of as channels_of_checkpoint
from robustseg_core.types import Reading
from support import makers

H, W = 8, 10
UNTIL_US, WINDOW_MS = 100_000, 20
ROW = st.tuples(
    st.integers(0, W - 1), st.integers(0, H - 1), st.booleans(), st.integers(70_000, 105_000)
)
ROWS = st.lists(ROW, min_size=1, max_size=60)
FEW = settings(max_examples=50)


def encoded(rows, **options) -> np.ndarray:
    """Of one reading for each third of the events."""
    camera = Event(encoding={"window_ms": WINDOW_MS, "clip": 3, **options})
    readings = []
    for part in (rows[::3], rows[1::3], rows[2::3]):
        if part:
            x, y, p, t = (np.array(column) for column in zip(*part, strict=True))
            value = {"x": x, "y": y, "polarity": p, "t_us": t, "size": (H, W), "until_us": UNTIL_US}
            readings.append(Reading("event", 0, "", camera.from_array(value)))
    array = camera.encode(readings, View((H, W)), 0)
    assert array.dtype == np.float32 and array.shape == (camera.encoding.channels, H, W)
    assert camera.picture(array).shape == (H, W, 3)
    return array


def seen(rows):
    return [
        (x, y, on, UNTIL_US - t) for x, y, on, t in rows if 0 <= UNTIL_US - t < WINDOW_MS * 1000
    ]


@FEW
@given(ROWS)
def test_a_histogram_counts(rows):
    expected = np.zeros((3, H, W), np.float32)
    for x, y, on, _ in seen(rows):
        expected[1 - on, y, x] += 1
    np.testing.assert_array_equal(encoded(rows), np.minimum(expected / np.float32(3), 1))


@FEW
@given(ROWS)
def test_a_time_surface_fades_with_the_age_of_the_latest_event(rows):
    expected = np.zeros((3, H, W))
    for x, y, on, age in seen(rows):
        expected[1 - on, y, x] = max(expected[1 - on, y, x], math.exp(-age / 7000))
    np.testing.assert_allclose(encoded(rows, form="time_surface", decay_ms=7), expected, rtol=1e-5)


@FEW
@given(ROWS, st.integers(2, 6))
def test_a_voxel_grid_shares_polarities_between_two_moments(rows, bins):
    expected = np.zeros((bins, H, W))
    for x, y, on, age in seen(rows):
        moment = (bins - 1) * (1 - age / (WINDOW_MS * 1000))
        for b in range(bins):
            expected[b, y, x] += (1 if on else -1) * max(0, 1 - abs(b - moment))
    expected = np.clip(expected / 3, -1, 1)
    found = encoded(rows, form="voxel_grid", bins=bins)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["histogram", "time_surface", "voxel_grid"])
def test_a_grown_event_is_a_square_of_its_own_value(form):
    rows = [(4, 4, form != "voxel_grid", 95_000)]
    one, grown = encoded(rows, form=form), encoded(rows, form=form, grow=3)
    for channel, large in zip(one, grown, strict=True):
        assert (large[3:6, 3:6] == channel[4, 4]).all()
        assert np.count_nonzero(large) == 9 * np.count_nonzero(channel)


def test_a_coarse_packet_counts_as_what_it_stands_for():
    rows = [(k % W, k % H, True, 99_000) for k in range(40)]
    whole = encoded(rows, form="voxel_grid", clip=100).sum()
    camera = Event(encoding={"window_ms": WINDOW_MS, "clip": 100, "form": "voxel_grid"})
    words = [0x8000 | 99_000 >> 12, 0x6000 | 99_000 % 4096]
    for x, y, *_ in rows:
        words += [y, 0x2800 | x]
    camera.coarse = True
    packet = camera.decode(
        makers.events(np.array(words), 99_000_000, height=H, width=W), 99_000_000
    )
    assert packet.stride == 4
    array = camera.encode([Reading("event", 0, "", packet)], View((H, W)), 100_000_000)
    assert array.sum() == pytest.approx(whole, rel=1e-5)


def test_the_checkpoint_says_which():
    for count in (channels_of, lambda name, o: channels_of_checkpoint(name, o)):
        assert count("event", {}) == count("event", {"form": "time_surface"}) == 3
        assert count("event", {"form": "voxel_grid", "bins": 7}) == 7
    with pytest.raises(RobustsegError, match="form"):
        Event(encoding={"form": "picture"})


@pytest.mark.parametrize("form", ["histogram", "time_surface", "voxel_grid"])
@pytest.mark.parametrize("name", [n for n, c in Event.corruptions.items() if c.native])
def test_faults_look_like_events_in_every_form(form, name):
    rows = [(k % W, k % H, k % 2 == 0, 90_000 + k) for k in range(50)]
    options = {"form": form, "window_ms": WINDOW_MS, "clip": 3}
    camera, clean = Event(encoding=options), encoded(rows, form=form)
    effect = Event.corruptions[name]
    array = effect.apply(clean, effect.worst, np.random.default_rng(3), camera.encoding)
    assert array.shape == clean.shape and array.dtype == np.float32
    assert not np.array_equal(array, clean)
    assert array.min() >= (-1 if form == "voxel_grid" else 0) and array.max() <= 1
