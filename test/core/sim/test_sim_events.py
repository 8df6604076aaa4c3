"""The simulated event camera before light that is known to the last decimal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.codecs.events.evt3 import Evt3Decoder
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities.event import Event
from robustseg_core.sim.event_sensor import EventArrays, EventCamera, substeps

pytestmark = pytest.mark.slow

QUIET = {"leak_hz": 0.0, "shot_noise_hz": 0.0}
IDEAL = QUIET | {"threshold_sigma": 0.0, "refractory_us": 0, "dark": 1e-9}


def bar(height: int, width: int, left: float, *, length: float = 12.0) -> np.ndarray:
    """A bright bar on gray, its edges anti-aliased as a camera's pixels would see them."""
    x = np.arange(width)
    cover = np.clip(np.minimum(x + 1, left + length) - np.maximum(x, left), 0, 1)
    return np.tile(0.2 + 0.8 * cover, (height, 1)).astype(np.float32)


def play(camera: EventCamera, pictures, *, step_us: int = 1000, start_us: int = 0) -> EventArrays:
    steps = [camera.step(p, start_us + k * step_us) for k, p in enumerate(pictures)]
    return EventArrays(*map(np.concatenate, zip(*steps, strict=True)))


def per_pixel(events: EventArrays, height: int, width: int, *, on: bool) -> np.ndarray:
    chosen = events.p == on
    spot = events.y[chosen].astype(int) * width + events.x[chosen]
    return np.bincount(spot, minlength=height * width).reshape(height, width)


def gaps_us(events: EventArrays) -> np.ndarray:
    """Time between events that follow each other in one pixel."""
    order = np.lexsort((events.t, events.x, events.y))
    x, y, t = events.x[order], events.y[order], events.t[order]
    return np.diff(t)[(np.diff(x.astype(int)) == 0) & (np.diff(y.astype(int)) == 0)]


def test_a_moving_bar_is_on_ahead_and_off_behind():
    camera = EventCamera(8, 64, **QUIET)
    camera.step(bar(8, 64, 20), 0)
    events = camera.step(bar(8, 64, 22), 1000)
    assert set(events.x[events.p]) == {32, 33}
    assert set(events.x[~events.p]) == {20, 21}


def test_a_swept_edge_leaves_no_gap():
    camera = EventCamera(16, 96, **QUIET)
    events = play(camera, [bar(16, 96, 5 + 0.7 * k) for k in range(90)])
    on, off = (per_pixel(events, 16, 96, on=flag) for flag in (True, False))
    assert (on[:, 18:79] > 0).all()  # swept by the bar's front: from 17 to 79.3
    assert (off[:, 6:67] > 0).all()  # and by its back: from 5 to 67.3
    assert not off[:, 69:].any()
    assert not on[:, :17].any()
    # it moves 0.7 pixels per millisecond, and so do its events
    front = events.p & (events.x >= 18) & (events.x < 79)
    slope, _ = np.polyfit(events.x[front].astype(float), events.t[front] / 1000, 1)
    assert slope == pytest.approx(1 / 0.7, rel=0.02)


@settings(max_examples=40)
@given(
    change=st.floats(-3, 3), on=st.floats(0.05, 0.5), off=st.floats(0.05, 0.5),
    steps=st.integers(1, 7), base=st.floats(0.01, 100),
)  # fmt: skip
def test_a_pixel_counts_how_far_the_light_went(change, on, off, steps, base):
    camera = EventCamera(2, 3, threshold_on=on, threshold_off=off, **IDEAL)
    ramp = [np.full((2, 3), base * np.exp(change * k / steps)) for k in range(steps + 1)]
    events = play(camera, ramp, step_us=3000)
    counts = per_pixel(events, 2, 3, on=change > 0)
    assert np.abs(counts - abs(change) / (on if change > 0 else off)).max() <= 1 + 1e-3
    assert not per_pixel(events, 2, 3, on=change <= 0).any()


def test_crossings_are_timed_between_the_samples():
    camera = EventCamera(1, 1, **IDEAL)
    events = play(camera, [np.full((1, 1), np.exp(v)) for v in (0.0, 1.1)], step_us=11_000)
    np.testing.assert_allclose(events.t, [2000, 4000, 6000, 8000, 10_000], atol=2)


def test_thresholds_differ_from_pixel_to_pixel():
    camera = EventCamera(100, 100, **IDEAL | {"threshold_sigma": 0.03})
    events = play(camera, [np.full((100, 100), np.exp(v)) for v in (0.0, 10.0)])
    threshold = 10 / per_pixel(events, 100, 100, on=True)
    assert np.median(threshold) == pytest.approx(0.2, abs=0.01)
    assert threshold.std() == pytest.approx(0.03, abs=0.01)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), blind_us=st.sampled_from([1, 50, 700, 2500]))
def test_a_pixel_is_blind_after_an_event(seed, blind_us):
    rng = np.random.default_rng(seed)
    camera = EventCamera(6, 7, seed=seed, refractory_us=blind_us, leak_hz=20, shot_noise_hz=200)
    events = play(camera, rng.uniform(0.01, 2, (40, 6, 7)), start_us=10**10)
    assert len(events.t) > 100
    assert gaps_us(events).min() >= blind_us
    assert (np.diff(events.t) >= 0).all()
    assert 10**10 <= events.t[0] <= events.t[-1] <= 10**10 + 40_000


def test_a_still_scene_leaks_and_flickers_at_the_rates_given():
    still = np.full((120, 160), 0.3)
    pixel_s = 120 * 160 * 2.0
    leak = play(EventCamera(120, 160, leak_hz=2.0, shot_noise_hz=0.0), [still] * 41, step_us=50_000)
    assert leak.p.all()
    assert len(leak.t) / pixel_s == pytest.approx(2.0, rel=0.05)
    first, second = np.histogram(leak.t, 2)[0]
    assert first == pytest.approx(second, rel=0.05)  # pixels do not leak in chorus
    shot = play(EventCamera(120, 160, leak_hz=0.0, shot_noise_hz=3.0), [still] * 41, step_us=50_000)
    assert len(shot.t) / pixel_s == pytest.approx(3.0, rel=0.03)
    assert shot.p.mean() == pytest.approx(0.5, abs=0.02)
    silent = play(EventCamera(120, 160, **QUIET), [still] * 5)
    assert len(silent.t) == 0


def test_the_dark_flickers_and_the_bright_leaks():
    halves = np.full((100, 200), 0.02)
    halves[:, 100:] = 1.0
    for options, brighter_has_more in (
        ({"leak_hz": 0.0, "shot_noise_hz": 5.0}, False),
        ({"leak_hz": 5.0, "shot_noise_hz": 0.0}, True),
    ):
        events = play(EventCamera(100, 200, **options), [halves] * 21, step_us=50_000)
        bright, dark = int((events.x >= 100).sum()), int((events.x < 100).sum())
        assert (bright > 2 * dark) if brighter_has_more else (dark > 2 * bright)


def test_the_same_seed_sees_the_same_events():
    pictures = [bar(20, 40, 3 + k) for k in range(10)]
    one, same, other = (play(EventCamera(20, 40, seed=s), pictures) for s in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("longest_ms, most_events", [(1.0, 20_000), (5.0, 37), (0.02, 20_000)])
def test_every_packet_reads_back_to_exactly_what_was_seen(longest_ms, most_events):
    start_us, zero_ns = 16_770_000, 1_700_000_000 * 10**9  # the sensor's clock wraps on the way
    camera = EventCamera(48, 64, seed=2, shot_noise_hz=20.0)
    pictures = [bar(48, 64, 3 + 0.8 * k) for k in range(30)]
    steps = [camera.step(p, start_us + 1000 * k) for k, p in enumerate(pictures)]
    decoder, modality, seq = Evt3Decoder(64, 48), Event(), 0
    seen = []
    for events in steps:
        for packet in camera.packets(
            events, zero_ns=zero_ns, longest_ms=longest_ms, most_events=most_events
        ):
            assert packet.seq == seq
            seq += 1
            part = decoder.decode(packet.events)
            assert 0 < len(part.t) <= most_events
            assert part.t[-1] - part.t[0] < longest_ms * 1000
            assert (part.unknown, part.outside, part.early) == (0, 0, 0)
            stamp_ns = packet.header.stamp.sec * 10**9 + packet.header.stamp.nanosec
            assert stamp_ns == zero_ns + (part.t[0]) * 1000
            read = modality.decode(packet, stamp_ns)
            np.testing.assert_array_equal(
                read.zero_ns + read.events.t * 1000, zero_ns + part.t * 1000
            )
            assert not read.lost
            seen.append(part)
    sent = EventArrays(*map(np.concatenate, zip(*steps, strict=True)))
    assert len(sent.t) > 1000
    assert sent.t[-1] > 1 << 24
    for name in ("x", "y", "p", "t"):
        read_back = np.concatenate([getattr(part, name) for part in seen])
        np.testing.assert_array_equal(read_back, getattr(sent, name), err_msg=name)


@given(flow=st.floats(0, 1000), longest=st.floats(0.1, 5))
def test_nothing_moves_farther_than_allowed_between_samples(flow, longest):
    count = substeps(flow, longest_px=longest)
    assert count >= 1
    assert flow / count <= longest * (1 + 1e-9)
    assert count == 1 or flow / (count - 1) > longest * (1 - 1e-9)


def test_light_that_is_no_light_is_refused():
    camera = EventCamera(2, 2)
    camera.step(np.ones((2, 2)), 5)
    for bad in (np.ones((2, 3)), np.full((2, 2), np.nan), np.full((2, 2), -1.0)):
        with pytest.raises(RobustsegError):
            camera.step(bad, 10)
    with pytest.raises(RobustsegError, match="go on"):
        camera.step(np.ones((2, 2)), 5)
    camera.step(np.zeros((2, 2)), 10)  # darkness is light enough
    with pytest.raises(RobustsegError):
        next(camera.packets(camera.step(np.ones((2, 2)), 20), most_events=0))


@pytest.mark.parametrize(
    "options", [{"threshold_on": 0.0}, {"refractory_us": -1}, {"leak_hz": -1.0}, {"dark": 0.0}]
)
def test_an_impossible_camera_is_refused(options: dict):
    with pytest.raises(RobustsegError):
        EventCamera(4, 4, **options)
    with pytest.raises(RobustsegError, match="2048"):
        EventCamera(4, 4096)
    with pytest.raises(RobustsegError):
        substeps(float("inf"))
