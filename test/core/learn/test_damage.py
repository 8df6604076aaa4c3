"""A picture that is damaged looks as if the message had been broken."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from robustseg_core import faults, modalities
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.geometry.view import View
from robustseg_core.learn.corrupt import damaged
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.types import MS, Reading
from support.drives import EPOCH, rows, through
from support.makers import camera_info, cloud, transform

pytestmark = pytest.mark.slow

PAIRS = [(s, fault) for s in modalities.ranked() for fault in modalities.corruptions_of(s)]
MEAN, STD = (np.array(v, np.float32)[:, None, None] for v in Rgb.Encoding().model_dump().values())


FORWARD = (0.5, -0.5, 0.5, 0.5)
"""Pose of a LiDAR that looks where the camera looks: its x is the camera's z."""


def scans() -> list[tuple[int, str, Any]]:
    """Half a second of a LiDAR with 16 lasers 2.4 degrees apart, and a pulse every half degree."""
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")]
    elevation, azimuth = np.radians(
        np.meshgrid(np.linspace(-18, 18, 16), np.arange(-90, 90, 0.5), indexing="ij")
    )
    arrivals = []
    for k in range(5):
        range_m = np.random.default_rng(k).uniform(4, 30, azimuth.shape)
        table = np.full(azimuth.shape, 0.5, kinds)
        table["x"] = range_m * np.cos(elevation) * np.cos(azimuth)
        table["y"] = range_m * np.cos(elevation) * np.sin(azimuth)
        table["z"] = range_m * np.sin(elevation)
        table["ring"] = np.arange(16)[:, None]
        message = cloud(table.reshape(-1), stamp_ns=EPOCH + k * 100 * MS)
        arrivals.append((k * 100 * MS, "lidar", message))
    return arrivals


@cache
def seen(sensor: str, fault: str = "") -> np.ndarray:
    """What the network sees of half a second of a sensor, whole or with a fault in its messages."""
    height, width = (96, 128) if sensor == "lidar" else (48, 64)
    view = View((height, width))
    view.set_camera_info("rgb", camera_info(height, width, fx=0.94 * width))
    view.add_transforms(transform("camera", "lidar", quaternion=FORWARD))
    modality = modalities.load(sensor)()
    arrivals = scans() if sensor == "lidar" else rows(0.5, [sensor])
    arrivals = through(f"{sensor}:{fault}", arrivals) if fault else arrivals
    readings = [
        Reading(sensor, stamp_of(m), m.header.frame_id, modality.decode(m, stamp_of(m)))
        for _, _, m in arrivals
    ]
    array = modality.encode(readings, view, readings[-1].stamp_ns + 25 * MS)
    array.flags.writeable = False  # a twin that changes what it is given fails here
    return array


@cache
def twin(sensor: str, fault: str, amount: float | None = None, seed: int = 0) -> np.ndarray:
    """The same sensor, broken after it was encoded."""
    made = modalities.corruptions_of(sensor)[fault]
    amount = made.mild if amount is None else amount
    span = made.worst - made.mild
    strength = (amount - made.mild) / span if span else 0.0
    return damaged(sensor, fault, seen(sensor), np.random.default_rng(seed), strength=strength)


def levels(array: np.ndarray) -> np.ndarray:
    return (array * STD + MEAN) * 255


def share(array: np.ndarray) -> float:
    """Of the pixels, those that say something."""
    return float((array > 0).any(0).mean())


def sharpness(array: np.ndarray) -> float:
    return float(np.abs(np.diff(levels(array), axis=2)).mean())


@pytest.mark.parametrize(("sensor", "fault"), PAIRS)
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_every_corruption_is_a_finite_picture_and_the_dice_repeat(
    sensor: str, fault: str, strength: float
) -> None:
    one, same = (
        damaged(sensor, fault, seen(sensor), np.random.default_rng(3), strength=strength)
        for _ in range(2)
    )
    assert one.shape == seen(sensor).shape and one.dtype == np.float32 and one.flags.c_contiguous
    assert np.isfinite(one).all() and np.array_equal(one, same)
    if strength == 1:
        assert not np.array_equal(one, seen(sensor))
    if sensor != "rgb" and fault != "gaussian_noise":
        assert one.min() >= 0 and one.max() <= 1


def test_a_corruption_that_has_a_message_fault_bears_its_name() -> None:
    ours = {(sensor, fault) for sensor, fault in PAIRS if fault in faults.available(sensor)}
    extra = {fault for sensor, fault in PAIRS if (sensor, fault) not in ours}
    assert extra == {"pixel_drop", "low_light", "salt_pepper", "gaussian_noise"}
    assert {f for s, f in ours if s == "rgb"} >= {"black", "blurred", "covered", "salt_pepper"}
    assert len(ours) == 40


@pytest.mark.parametrize(("fault", "level"), [("black", 1), ("saturated", 254), ("flat", 129)])
def test_an_image_without_content_has_the_same_level(fault: str, level: int) -> None:
    amount = 128 if fault == "flat" else None
    ours, theirs = (levels(a) for a in (twin("rgb", fault, amount), seen("rgb", fault)))
    assert ours.mean() == pytest.approx(level, abs=0.3)
    assert theirs.mean() == pytest.approx(level, abs=0.3)
    assert ours.std() == pytest.approx(theirs.std(), abs=0.3)


def test_blur_takes_as_much_sharpness_in_the_picture_as_in_the_message() -> None:
    theirs = sharpness(seen("rgb", "blurred(sigma=2)"))
    assert sharpness(twin("rgb", "blurred", 2)) == pytest.approx(theirs, rel=0.05)
    assert theirs < 0.5 * sharpness(seen("rgb"))


def test_a_cover_hides_as_much_of_the_picture_as_of_the_message() -> None:
    for array in (twin("rgb", "covered", 0.5), seen("rgb", "covered(share=0.5)")):
        hidden = (np.abs(np.diff(levels(array), axis=2)).max(0) < 0.01).mean()
        assert hidden == pytest.approx(0.5, abs=0.02)


def test_a_cover_may_come_from_every_side() -> None:
    sides = set()
    for seed in range(20):
        same = twin("rgb", "covered", 0.5, seed=seed) == seen("rgb")
        edges = (same[0, 0], same[0, -1], same[0, :, 0], same[0, :, -1])
        sides |= {tuple(bool(edge.sum() > 2) for edge in edges)}  # one may have the cover's gray
    assert len(sides) == 4


def test_speckles_and_noise_are_as_strong_as_in_the_message() -> None:
    for array in (twin("rgb", "salt_pepper", 0.1), seen("rgb", "salt_pepper(share=0.1)")):
        extreme = ((levels(array) < 0.5) | (levels(array) > 254.5)).all(0).mean()
        assert extreme == pytest.approx(0.1, abs=0.025)
    away = [
        np.sqrt(np.square(levels(array) - levels(seen("rgb"))).mean())
        for array in (twin("rgb", "gaussian_noise", 20), seen("rgb", "gaussian_noise(sigma=20)"))
    ]
    assert away[0] == pytest.approx(away[1], rel=0.03)


def test_garbage_is_unrelated_to_the_scene_in_both() -> None:
    for sensor in ("rgb", "depth"):
        for array in (twin(sensor, "garbage"), seen(sensor, "garbage")):
            related = np.corrcoef(array[0].ravel(), seen(sensor)[0].ravel())[0, 1]
            assert abs(related) < 0.06
    ours, theirs = twin("depth", "garbage")[0], seen("depth", "garbage")[0]
    assert np.median(ours) == pytest.approx(np.median(theirs), rel=0.05)
    for array in (twin("event", "garbage"), seen("event", "garbage")):
        assert share(array) < 0.3 * share(seen("event"))


def test_holes_take_the_same_share_of_depth() -> None:
    whole = share(seen("depth"))
    ours = np.mean([share(twin("depth", "holes", 0.4, seed)) for seed in range(10)])
    theirs = share(seen("depth", "holes(share=0.4,side=2)"))
    assert ours == pytest.approx(0.6 * whole, abs=0.02)
    assert theirs == pytest.approx(0.6 * whole, abs=0.05)


def test_a_mistaken_unit_makes_depth_very_far_or_very_near() -> None:
    outcomes = {float(np.median(twin("depth", "depth_unit", seed=s))) for s in range(10)}
    far, near = sorted(outcomes)
    assert far == pytest.approx(np.median(seen("depth")) / 1000)
    assert near == 1 == np.median(seen("depth", "depth_unit"))  # 16UC1 millimetres


def test_what_is_blind_shows_nothing_in_both() -> None:
    for sensor, fault in (
        ("depth", "invalid_depth"),
        ("lidar", "empty_cloud"),
        ("event", "no_events"),
    ):
        assert share(seen(sensor)) > 0.05
        assert share(twin(sensor, fault)) == 0 == share(seen(sensor, fault))


def test_a_blocked_sector_takes_the_same_share_of_returns() -> None:
    # The lens sees 56 degrees: a sector from -28 to 0 is the right half of the picture.
    theirs = seen("lidar", "sector(start_deg=-28,width_deg=28)")
    ours = [twin("lidar", "sector", 0.5, seed) for seed in range(20)]
    assert share(theirs) / share(seen("lidar")) == pytest.approx(0.5, abs=0.05)
    assert np.mean([share(a) for a in ours]) == pytest.approx(share(theirs), rel=0.1)
    for array in (theirs, *ours):
        empty = ~array.any((0, 1))
        assert empty.mean() == pytest.approx(0.5, abs=0.05)
        assert np.diff(empty.astype(int)).astype(bool).sum() <= 2  # one band


def test_dead_lasers_take_the_same_share_of_returns_and_leave_whole_lines() -> None:
    whole = seen("lidar")
    lines = whole[0].any(1)  # rows that some laser paints
    theirs = seen("lidar", "rings(share=0.5)")
    ours = [twin("lidar", "rings", 0.5, seed) for seed in range(20)]
    assert share(theirs) / share(whole) == pytest.approx(0.5, abs=0.1)
    assert np.mean([share(a) for a in ours]) / share(whole) == pytest.approx(0.5, abs=0.1)
    for array in (theirs, *ours):
        alive = array[0].any(1)
        assert not alive[~lines].any() and 0 < alive.sum() < lines.sum()
    for array in ours:  # a row is as it was, or gone
        alive = array[0].any(1)
        assert np.array_equal(array[:, alive], whole[:, alive])


def test_lost_pulses_thin_the_returns_alike() -> None:
    whole = share(seen("lidar"))
    ours = share(twin("lidar", "sparse_cloud", 0.8)) / whole
    theirs = share(seen("lidar", "sparse_cloud(share=0.8)")) / whole
    assert ours == pytest.approx(0.2, abs=0.04)
    assert ours <= theirs < 0.6  # neighbors paint over each other: of three, one is enough


def test_trembling_ranges_move_by_as_many_metres_and_none_is_lost() -> None:
    whole = seen("lidar")
    moved = []
    for array in (twin("lidar", "jitter", 0.4), seen("lidar", "jitter(metres=0.4)")):
        both = (array[0] > 0) & (whole[0] > 0)
        assert both.sum() >= 0.9 * (whole[0] > 0).sum()
        away_m = (array[0] - whole[0])[both] * 80
        moved.append(float(np.median(np.abs(away_m))) / 0.6745)  # a robust deviation
    assert moved == pytest.approx([0.4, 0.4], rel=0.25)


def test_a_trembling_return_keeps_its_ray() -> None:
    whole, array = seen("lidar"), twin("lidar", "jitter", 0.4)
    inside = (array[0] > 0.02) & (array[0] < 1) & (array[2] > 0.01) & (array[2] < 1)
    before, after = (  # height over range, in metres
        (a[2][inside] * 20 - 5) / (a[0][inside] * 80) for a in (whole, array)
    )
    assert np.allclose(before, after, atol=1e-4)


def test_a_flood_raises_the_density_and_keeps_what_was_there() -> None:
    whole = seen("event")
    rate_hz = 0.7 * 48 * 64 / 0.05  # events per second that make 0.7 per pixel in the window
    theirs = share(seen("event", f"event_flood(rate_hz={rate_hz})"))
    ours = share(twin("event", "event_flood", 0.7))
    assert share(whole) < 0.2 and theirs > 0.35
    assert ours == pytest.approx(theirs, abs=0.15)
    assert (twin("event", "event_flood", 0.7) >= whole - 1e-6).all()
    for array in (twin("event", "event_flood", 10), seen("event", "event_flood")):
        assert array[:2].mean() > 0.8


def test_hot_pixels_are_few_and_fire_at_the_limit() -> None:
    for array in (twin("event", "hot_pixels", 0.003), seen("event", "hot_pixels(count=9)")):
        added = (array - seen("event"))[0] > 0.5
        assert 5 <= added.sum() <= 9
        assert (array[0][added] == 1).all()
        assert np.array_equal(array[1] > 0, seen("event")[1] > 0)


def test_less_light_is_darker_and_noisier_for_what_light_there_is() -> None:
    dim = levels(twin("rgb", "low_light", 0.1))
    assert dim.mean() == pytest.approx(0.1 * levels(seen("rgb")).mean(), rel=0.15)


def test_dropped_pixels_are_zero_in_the_given_share_and_the_others_as_before() -> None:
    array = twin("depth", "pixel_drop", 0.5)
    dropped = array == 0
    assert dropped.mean() == pytest.approx(0.5, abs=0.03)
    assert not (dropped.all(0) | (~dropped).all(0)).all()  # each channel for itself
    assert np.array_equal(array[~dropped], seen("depth")[~dropped])


@pytest.mark.parametrize(
    ("sensor", "fault", "amount"),
    [
        ("depth", "fouling", 0.4),
        ("event", "fouling", 0.4),
        ("lidar", "fouling", 0.4),
        ("depth", "fading", 0.5),
        ("event", "fading", 0.5),
    ],
)
def test_what_is_lost_behind_dirt_or_fades_is_lost_alike(sensor, fault, amount) -> None:
    whole, option = share(seen(sensor)), "lost" if fault == "fading" else "share"
    theirs = share(seen(sensor, f"{fault}({option}={amount},minutes=0)")) / whole
    ours = np.mean([share(twin(sensor, fault, amount, seed)) for seed in range(10)]) / whole
    assert ours == pytest.approx(1 - amount, abs=0.08)
    assert theirs == pytest.approx(1 - amount, abs=0.15)


def test_a_darker_and_a_dusty_picture_are_as_dark_and_as_pale_as_the_message() -> None:
    for fault, words in (("fading", "lost=0.7"), ("dust", "share=0.5")):
        theirs = levels(seen("rgb", f"{fault}({words},minutes=0)"))
        ours = levels(twin("rgb", fault, float(words[-3:])))
        assert ours.mean() == pytest.approx(theirs.mean(), abs=4)
        assert ours.std() == pytest.approx(theirs.std(), rel=0.15)


def test_red_and_blue_change_places_as_in_the_message() -> None:
    assert np.abs(levels(twin("rgb", "swapped_channels")) - levels(seen("rgb"))[::-1]).max() < 1e-2


def test_another_lens_enlarges_or_shrinks() -> None:
    sizes = {share(twin("depth", "wrong_calibration", 1.25, seed)) for seed in range(6)}
    small, large = min(sizes), max(sizes)
    assert small == pytest.approx(0.64 * share(seen("depth")), abs=0.06) and large > 1.5 * small


def test_dust_comes_back_nearer_and_along_the_ray() -> None:
    whole, array = seen("lidar"), twin("lidar", "dust", 0.5)
    nearer = array[0] < whole[0] - 1e-6
    assert nearer.sum() / (whole[0] > 0).sum() == pytest.approx(0.5, abs=0.1)
    assert (array[0] <= whole[0] + 1e-6).all() and ((array[0] > 0) == (whole[0] > 0)).all()
    depth = twin("depth", "dust", 0.5)
    assert (depth >= seen("depth")).all() and (depth > seen("depth")).any()


def test_a_misaligned_picture_is_the_same_a_little_beside() -> None:
    for seed in range(5):
        array = twin("depth", "misaligned", 0.03, seed)
        shifts = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(
                array[:, 4:-4, 4:-4], np.roll(seen("depth"), (down, right), (1, 2))[:, 4:-4, 4:-4]
            )
        ]
        assert len(shifts) == 1 and shifts != [(0, 0)]
