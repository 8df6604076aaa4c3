"""Content checks: each fault is named, and its harmless twin raises no alarm."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.codecs.events.evt3 import encode_evt3
from robustseg_core.codecs.points import Cloud
from robustseg_core.geometry.view import View
from robustseg_core.modalities.depth import Depth
from robustseg_core.modalities.event import Event
from robustseg_core.modalities.lidar import Lidar
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.predictor.sample import example
from robustseg_core.types import MS, Fault, Finding, Reading, Rejection
from support import makers

RNG = np.random.default_rng(23)
SCENE = np.clip(
    cv2.resize(RNG.integers(20, 236, (30, 40, 3)).astype(np.float32), (320, 240))
    + RNG.normal(0, 3, (240, 320, 3)),
    0,
    255,
).astype(np.uint8)

SEEN = example().arrays["rgb"]
"""(H, W, 3), simulated: slopes and patches as streets have them."""


def faults(findings) -> list[tuple[Fault, bool]]:
    return [(f.fault, f.fatal) for f in findings if f.alarm]


def noise(mean: float, std: float) -> np.ndarray:
    return np.clip(RNG.normal(mean, std, (240, 320, 3)), 0, 255).astype(np.uint8)


# -- camera -----------------------------------------------------------------------------------


def night() -> np.ndarray:
    """Dark, with a few lamps and the noise of high gain."""
    image = noise(3, 2)
    for row, col in RNG.integers(10, 230, (12, 2)):
        cv2.circle(image, (int(col), int(row)), 5, (250, 240, 200), -1)
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (SCENE, []),
        (np.zeros((240, 320, 3), np.uint8), [(Fault.BLACK, True)]),
        (noise(2, 1.5), [(Fault.BLACK, True)]),
        (np.full((240, 320, 3), 255, np.uint8), [(Fault.SATURATED, True)]),
        (noise(254, 1), [(Fault.SATURATED, True)]),
        (np.full((240, 320, 3), 127, np.uint8), [(Fault.FLAT, True)]),
    ],
)
def test_an_image_without_a_picture_is_rejected(image: np.ndarray, expected) -> None:
    assert faults(Rgb().check(image)) == expected


def test_a_night_scene_is_dark_and_legal() -> None:
    assert not any(f.fatal for f in Rgb().check(night()))


def test_a_colored_wall_in_one_channel_is_not_flat() -> None:
    image = np.full((240, 320, 3), 127, np.uint8)
    image[..., 0] = np.linspace(0, 255, 320)
    assert Fault.FLAT not in [fault for fault, fatal in faults(Rgb().check(image)) if fatal]


def calm(scene: np.ndarray = SCENE) -> Rgb:
    camera = Rgb()
    for _ in range(12):
        assert faults(camera.check(scene)) == []
    return camera


def covered(share: float) -> np.ndarray:
    image = SCENE.copy()
    image[: int(240 * share)] = 40
    return image


@pytest.mark.parametrize(
    ("share", "fatal"), [(0.2, None), (0.32, False), (0.6, False), (0.9, False), (0.96, True)]
)
def test_a_lens_covered_in_part_degrades_the_image(share: float, fatal: bool | None) -> None:
    found = faults(calm().check(covered(share)))
    assert found == ([] if fatal is None else [(Fault.COVERED, fatal)])


def test_a_lens_that_was_covered_before_the_start_is_found_as_well() -> None:
    assert faults(Rgb().check(covered(0.6))) == [(Fault.COVERED, False)]


@pytest.mark.slow
def test_quality_falls_without_a_jump_as_a_cover_grows() -> None:
    scores = []
    for share in np.arange(0, 0.94, 0.02):
        camera = calm()
        scores.append(min((f.score for f in camera.check(covered(share))), default=1.0))
    assert scores[0] == 1 and scores[-1] < 0.3
    assert all(b <= a + 1e-9 for a, b in pairwise(scores))
    assert max(a - b for a, b in pairwise(scores)) < 0.35, "as a row of blocks falls silent"


def test_a_night_that_is_dark_from_one_image_to_the_next_is_no_cover() -> None:
    """A tunnel: all the light goes, the structure and some noise stay."""
    tunnel = np.clip(SCENE * 0.072 + RNG.normal(0, 2, SCENE.shape), 0, 255).astype(np.uint8)
    assert tunnel[..., 1].mean() < 10
    assert faults(calm().check(tunnel)) == []


def test_random_bytes_are_no_picture() -> None:
    garbage = RNG.integers(0, 256, SCENE.shape, np.uint8)
    assert faults(Rgb().check(garbage)) == [(Fault.NOISY, True)]


@pytest.mark.parametrize(("sigma", "found"), [(10, []), (20, [(Fault.NOISY, False)])])
def test_noise_is_doubted_when_it_is_more_than_a_night_has(sigma: float, found) -> None:
    noisy = np.clip(SCENE + RNG.normal(0, sigma, SCENE.shape), 0, 255).astype(np.uint8)
    assert faults(calm().check(noisy)) == found


def test_a_camera_that_was_always_noisy_is_well() -> None:
    camera = Rgb()
    for _ in range(30):
        noisy = np.clip(SCENE + RNG.normal(0, 18, SCENE.shape), 0, 255).astype(np.uint8)
        assert faults(camera.check(noisy)) == []


@pytest.mark.parametrize(("share", "found"), [(0.005, []), (0.05, [(Fault.NOISY, False)])])
def test_pixels_that_jump_out_are_noise(share: float, found) -> None:
    speckled = SCENE.copy()
    speckled[RNG.random(SCENE.shape[:2]) < share] = 255
    assert faults(calm().check(speckled)) == found


def test_a_lost_plane_of_color_is_found_and_a_yellow_lamp_is_not() -> None:
    planeless, yellow = SCENE.copy(), (SCENE * (1.0, 0.7, 0.3)).astype(np.uint8)
    planeless[..., ::2] = 0
    assert faults(calm().check(yellow)) == []
    assert faults(calm().check(planeless)) == [(Fault.DISCOLORED, False)]


def driven(k: int) -> np.ndarray:
    """The scene as a camera sees it that moves on."""
    moved = np.roll(SCENE, -k, axis=1).astype(np.int16) + RNG.integers(-2, 3, SCENE.shape)
    return np.clip(moved, 0, 255).astype(np.uint8)


def test_red_and_blue_that_are_exchanged_are_found_at_once_and_until_they_are_set_right() -> None:
    camera = Rgb()
    for k in range(30):
        swapped = 10 <= k < 20
        image = driven(k)[..., ::-1] if swapped else driven(k)
        assert faults(camera.check(image)) == ([(Fault.DISCOLORED, False)] if swapped else []), k


def street(k: int, light: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """A blue sky over a brown road, seen in a fast turn."""
    image = driven(9 * k).astype(np.float32)
    image[:120] += (-30, 0, 30)
    image[120:] += (20, 0, -20)
    return (np.clip(image, 0, 255) * light).astype(np.uint8)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_red_and_blue_are_found_in_a_fast_turn_and_when_only_some_are_exchanged(share) -> None:
    camera, seldom = Rgb(), round(1 / share)
    for k in range(60):
        swapped = k >= 20 and k % seldom == 0
        image = street(k)[..., ::-1] if swapped else street(k)
        assert faults(camera.check(image)) == ([(Fault.DISCOLORED, False)] if swapped else []), k


def test_lamps_of_a_tunnel_are_no_exchange() -> None:
    camera = Rgb()
    for k in range(60):
        image = street(k, (0.9, 0.6, 0.35) if 20 <= k < 40 else (1.0, 1.0, 1.0))
        assert Fault.DISCOLORED not in [fault for fault, _ in faults(camera.check(image))]


def test_another_scene_and_a_gray_one_are_no_exchange() -> None:
    other = cv2.resize(RNG.integers(20, 236, (20, 30, 3)).astype(np.uint8), (320, 240))
    gray = np.repeat(SCENE[..., 1:2], 3, axis=2)
    for camera, images in (
        (Rgb(), (SCENE, other, SCENE[::-1], gray, gray[..., ::-1], gray, SCENE)),
        (calm(), (SCENE, other, SCENE[::-1], SCENE, other)),
    ):
        for image in images:
            assert Fault.DISCOLORED not in [fault for fault, _ in faults(camera.check(image))]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_part_that_stands_still_while_the_rest_goes_on_is_found(share: float, axis: int) -> None:
    camera, edge, told, kept = Rgb(), round(SCENE.shape[axis] * share), [], SCENE
    for k in range(24):
        image = driven(k)
        if k >= 10:
            where = np.s_[:edge] if axis == 0 else np.s_[:, :edge]
            image[where] = kept[where]
        kept = image
        told.append(faults(camera.check(image)))
    assert not any(told[:14]) and told[-1] == [(Fault.STUCK, False)]


@pytest.mark.parametrize("share", [0.17, 0.33, 0.58, 0.86])
def test_a_part_that_ends_anywhere_and_was_compressed_is_found(share: float) -> None:
    camera, edge, told, kept = Rgb(), round(320 * share), [], driven(0)
    for k in range(24):
        image = driven(k)
        if k >= 10:
            image[:, :edge] = kept[:, :edge]
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        told.append(faults(camera.check(cv2.imdecode(packed, cv2.IMREAD_COLOR))))
    assert not any(told[:14]) and told[-1] == [(Fault.STUCK, False)]


def test_a_car_that_passes_a_camera_which_stands_is_no_part_that_stands_still() -> None:
    camera = Rgb()
    for k in range(30):
        image = SCENE.copy()
        image[120:180, 8 * k : 8 * k + 80] = RNG.integers(0, 255, 3)  # no noise at all
        assert Fault.STUCK not in [fault for fault, _ in faults(camera.check(image))], k


@pytest.mark.parametrize(
    ("columns", "sigma", "least", "most"),
    [  # in a picture of 256 columns: 0.5, 2.4 (0.8 is right), 5 (0.43) and 12 pixels
        (640, 1.25, 1.0, 1.0),
        (640, 6.0, 0.6, 0.95),
        (640, 12.5, 0.2, 0.7),
        (640, 30.0, 0.0, 0.2),
        (320, 3.0, 0.6, 0.95),
    ],
)
def test_a_blur_is_certain_and_leaves_what_a_network_can_see(
    columns: int, sigma: float, least: float, most: float
) -> None:
    scene = cv2.resize(SEEN, (columns, columns * 5 // 8), interpolation=cv2.INTER_AREA)
    camera = calm(scene)
    found = list(camera.check(cv2.GaussianBlur(scene, (0, 0), sigma)))
    left = min((max(finding.score, finding.left) for finding in found), default=1.0)
    assert least <= left <= most
    if sigma >= 6:
        (blur,) = found
        assert blur.fault is Fault.BLURRED and blur.alarm and blur.score < left + 0.5


def test_a_blur_that_stays_does_not_become_usual() -> None:
    camera, blurred = calm(), cv2.GaussianBlur(SCENE, (0, 0), 6)
    for _ in range(60):
        assert faults(camera.check(blurred)) == [(Fault.BLURRED, False)]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 3), (7, 9), (33, 41)])
def test_an_image_of_any_size_is_judged(size: tuple[int, int]) -> None:
    camera = Rgb()
    for _ in range(12):
        list(camera.check(RNG.integers(60, 90, (*size, 3), np.uint8)))


def test_a_camera_that_loses_focus_degrades_and_a_dimmed_one_does_not() -> None:
    camera = Rgb()
    for _ in range(12):
        assert list(camera.check(SCENE)) == []
    assert list(camera.check(SCENE // 2)) == []
    blurred = cv2.GaussianBlur(SCENE, (0, 0), 6)
    assert faults(camera.check(blurred)) == [(Fault.BLURRED, False)]
    camera.reset()
    assert list(camera.check(blurred)) == []


SPOTS = cv2.GaussianBlur(np.random.default_rng(4).normal(0, 1, (240, 320)), (0, 0), 12)


LIGHT = cv2.GaussianBlur(np.random.default_rng(6).normal(0, 1, (240, 320)), (0, 0), 25)
STREET = SCENE * 0.4 + (80 + LIGHT * 30 / LIGHT.std())[..., None]
"""What is broad, too, as streets have it."""


def dirty(image: np.ndarray, share: float) -> np.ndarray:
    return np.where((np.quantile(SPOTS, share) > SPOTS)[..., None], (52, 44, 36), image)


def veiled(image: np.ndarray, share: float) -> np.ndarray:
    return image * (1 - share) + share * np.array((188, 172, 146))


def dewy(image: np.ndarray, share: float) -> np.ndarray:
    return image * (1 - share) + share * cv2.GaussianBlur(image, (0, 0), 16)


CREEPS = {
    # name: (fault, the amounts until which it must not be and by which it must be named, the image)
    "light goes out": (Fault.DIM, 0.4, 0.75, lambda image, share: image * (1 - share)),
    "dust": (Fault.HAZY, 0.05, 0.35, veiled),
    "dew": (Fault.BLURRED, 0.1, 0.5, dewy),
    "dirt": (Fault.COVERED, 0.02, 0.3, dirty),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CREEPS)
def test_what_creeps_up_on_a_lens_is_named_in_time_and_nothing_else_is(kind: str) -> None:
    """Too slowly for what was usual seconds ago."""
    fault, early, most, broken = CREEPS[kind]
    camera, found = Rgb(), {}
    for k in range(750):
        amount = max(0.0, (k - 350) / 400) * 1.2 * most
        image = np.roll(STREET, (3 * k, k // 7), (1, 0))
        image = np.clip(broken(image, amount), 0, 255).astype(np.uint8)
        for finding in camera.check(image):
            if finding.alarm:
                found.setdefault(finding.fault, amount)
    assert set(found) == {fault}
    assert early < found[fault] <= most


def test_a_camera_that_drives_for_long_is_well() -> None:
    camera = Rgb()
    for k in range(300):
        image = np.roll(SCENE, (3 * k, k // 7), (1, 0))
        assert not faults(camera.check(image)), k


def test_of_a_camera_that_stands_nobody_says_that_its_lens_is_soiled() -> None:
    camera = Rgb()
    for k in range(300):
        image = np.roll(SCENE, 3 * min(k, 100), 1)
        assert not faults(camera.check(image)), k


def test_pictures_show_the_scene_again() -> None:
    camera, view = Rgb(), View((240, 320))
    array = camera.encode([Reading("rgb", 0, "camera", SCENE)], view, 0)
    np.testing.assert_array_equal(camera.picture(array), SCENE)
    assert abs(float(array[0].mean()) - (SCENE[..., 0].mean() / 255 - 0.485) / 0.229) < 1e-4


# -- depth ------------------------------------------------------------------------------------

ROOM = cv2.resize(RNG.uniform(0.8, 6, (30, 40)).astype(np.float32), (320, 240))


@pytest.mark.parametrize(
    ("depth_m", "expected"),
    [
        (ROOM, []),
        (np.full_like(ROOM, np.nan), [(Fault.INVALID_DEPTH, True)]),
        (np.full_like(ROOM, 2), [(Fault.FLAT, True)]),
        (ROOM * 1000, [(Fault.DEPTH_UNIT, True)]),
        (ROOM / 1000, [(Fault.DEPTH_UNIT, True)]),
    ],
)
def test_depth_that_says_nothing_is_rejected(depth_m: np.ndarray, expected) -> None:
    assert faults(Depth().check(depth_m)) == expected


def test_depth_that_lost_most_of_its_pixels_degrades() -> None:
    depth, holes = Depth(), ROOM.copy()
    holes[:200] = np.nan
    assert list(depth.check(holes)) == []
    for _ in range(20):
        assert faults(depth.check(ROOM)) == []
    assert faults(depth.check(holes)) == [(Fault.INVALID_DEPTH, False)]


def test_depth_of_unrelated_pixels_is_rejected_as_noise() -> None:
    garbage = RNG.uniform(0.1, 65, ROOM.shape).astype(np.float32)
    assert faults(Depth().check(garbage)) == [(Fault.NOISY, True)]


def test_a_unit_that_changes_is_found_where_both_units_are_plausible() -> None:
    depth = Depth(limits={"nearest_m": 0.001})
    for _ in range(12):
        assert faults(depth.check(ROOM)) == []
    assert faults(depth.check(ROOM / 1000)) == [(Fault.DEPTH_UNIT, True)]
    assert faults(depth.check(ROOM / 20)) == [], "a wall may come close"


def test_holes_that_come_and_go_are_found_and_a_still_shadow_is_not() -> None:
    depth, shadow = Depth(), ROOM.copy()
    shadow[:, :100] = np.nan
    for _ in range(15):
        assert faults(depth.check(ROOM)) == []
    assert [f for _ in range(20) for f in faults(depth.check(shadow))][1:] == []
    found = []
    for _ in range(5):
        holes = (RNG.random((15, 20)) < 0.3).repeat(16, 0).repeat(16, 1)
        found.append(faults(depth.check(np.where(holes, np.nan, ROOM))))
    assert found[1:] == [[(Fault.INVALID_DEPTH, False)]] * 4


def test_near_is_bright_and_invalid_is_zero() -> None:
    depth_m = np.array([[0.25, 0.5], [2.0, np.nan]], np.float32)
    array = Depth(encoding={"near_m": 0.5}).encode(
        [Reading("depth", 0, "camera", depth_m)], View((2, 2)), 0
    )
    np.testing.assert_allclose(array, [[[1, 1], [0.25, 0]]] * 3)


def test_a_depth_camera_beside_the_camera_is_registered() -> None:
    """A wall 2 m ahead with a box 1 m ahead: seen 0.1 m from the right, the box moves left."""
    view = View((60, 80))
    view.set_camera_info("rgb", makers.camera_info(height=60, width=80, fx=80, frame_id="rgb"))
    view.set_camera_info("depth", makers.camera_info(height=60, width=80, fx=80, frame_id="depth"))
    depth_m = np.full((60, 80), 2, np.float32)
    depth_m[20:40, 30:50] = 1
    reading = [Reading("depth", 0, "depth", depth_m)]
    aligned = Depth().encode(reading, view, 0)  # no transform: taken as aligned
    assert aligned[0, 30, 30] == 0.5
    view.add_transforms(makers.transform("rgb", "depth", (-0.1, 0, 0)))
    array = Depth(encoding={"grow": 1}).encode(reading, view, 0)
    box = np.flatnonzero(array[0, 30] == 0.5)
    assert (box.min(), box.max()) == (22, 41)  # 80 px * 0.1 m / 1 m = 8
    assert array[0, 30, 21] == 0.25  # 80 px * 0.1 m / 2 m: the wall moves by 4, under the box
    assert (array[0, 30, 42:46] == 0).all()  # what the box hid


# -- lidar ------------------------------------------------------------------------------------


def scan(count: int = 6000, keep=lambda angle: angle < 9) -> Cloud:
    angle = RNG.uniform(-np.pi, np.pi, count)
    angle = angle[keep(angle)]
    xyz = np.stack([10 * np.cos(angle), 10 * np.sin(angle), RNG.uniform(-1, 1, len(angle))], axis=1)
    return Cloud(xyz.astype(np.float32), None, None, count)


def seasoned() -> Lidar:
    lidar = Lidar()
    for _ in range(8):
        assert faults(lidar.check(scan())) == []
    return lidar


def sweep(noise_m: float = 0.02, rings=tuple(range(16)), near: float = 0.0) -> Cloud:
    """A turning LiDAR of 16 numbered lasers in a street; `near` of its returns are dust."""
    angle = np.linspace(-np.pi, np.pi, 400, endpoint=False).repeat(16)
    ring = np.tile(np.arange(16), 400)
    tilt = np.radians(-12 + ring)
    range_m = 17 + 12 * np.sin(3 * angle) + RNG.normal(0, noise_m, len(angle))
    range_m[RNG.random(len(angle)) < near] = 0.5
    flat = range_m * np.cos(tilt)
    xyz = np.stack([flat * np.cos(angle), flat * np.sin(angle), range_m * np.sin(tilt)], axis=1)
    kept = np.isin(ring, rings)
    return Cloud(xyz[kept].astype(np.float32), None, ring[kept].astype(np.int32), len(ring))


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        (sweep(), []),
        (sweep(rings=range(3, 16)), []),
        (sweep(rings=range(0, 16, 2)), [(Fault.SPARSE_CLOUD, False)]),
        (sweep(noise_m=0.1), [(Fault.NOISY, False)]),
        (sweep(near=0.05), []),
        (sweep(near=0.6), [(Fault.NEAR_RETURNS, False)]),
    ],
)
def test_a_lidar_whose_lasers_die_tremble_or_see_dust_is_doubted(cloud: Cloud, expected) -> None:
    lidar = Lidar()
    for _ in range(8):
        assert faults(lidar.check(sweep())) == []
    for _ in range(2):  # noise is looked at in every third scan
        lidar.check(cloud)
    assert faults(lidar.check(cloud)) == expected


@pytest.mark.slow
def test_a_robot_that_stands_for_long_and_then_drives_off_is_well() -> None:
    rgb, depth, lidar = Rgb(), Depth(), Lidar()
    for k in range(80):
        moved = max(0, k - 60)
        picture = np.roll(SCENE, 5 * moved, axis=1) + RNG.normal(0, 2, SCENE.shape)
        metres = np.roll(ROOM, 4 * moved, axis=1)
        metres = np.where(metres > 5, np.nan, metres) + RNG.normal(0, 0.01, ROOM.shape)
        found = faults(rgb.check(np.clip(picture, 0, 255).astype(np.uint8)))
        found += faults(depth.check(metres.astype(np.float32)))
        found += faults(lidar.check(sweep()))
        assert found == [], f"frame {k}"


def test_lasers_are_told_apart_by_elevation_where_they_have_no_number() -> None:
    def unnumbered(cloud: Cloud) -> Cloud:
        return Cloud(cloud.xyz, None, None, cloud.total)

    lidar = Lidar()
    for _ in range(8):
        assert faults(lidar.check(unnumbered(sweep()))) == []
    half = unnumbered(sweep(rings=range(0, 16, 2)))
    assert (Fault.SPARSE_CLOUD, False) in faults(lidar.check(half))


def test_random_bytes_are_no_points() -> None:
    bits = RNG.integers(0, 2**32, (3000, 3), np.uint32).view(np.float32)
    xyz = bits[np.isfinite(bits).all(1)]
    assert faults(Lidar().check(Cloud(xyz, None, None, 3000))) == [(Fault.UNDECODABLE, True)]


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        (scan(5500), []),
        (scan(2000), [(Fault.SPARSE_CLOUD, False)]),
        (scan(20), [(Fault.EMPTY_CLOUD, True)]),
        (scan(6000, lambda a: np.abs(a) > 0.6), [(Fault.COVERED, False)]),
        (scan(6000, lambda a: np.abs(a - 0.4) > 0.27), [(Fault.COVERED, False)]),
        (scan(6000, lambda a: np.abs(a - 0.4) > 0.1), []),
    ],
)
def test_a_lidar_that_sees_less_than_usual_is_found_out(cloud: Cloud, expected) -> None:
    assert faults(seasoned().check(cloud)) == expected


def weighed(share: float) -> Cloud:
    cloud = sweep()
    intensity = RNG.uniform(20, 200, len(cloud.xyz)).astype(np.float32)
    return replace(cloud, intensity=intensity * np.float32(1 - share))


def test_a_lidar_that_grows_weak_is_dim_however_slowly() -> None:
    lidar, found = Lidar(), {}
    for k in range(300):
        share = max(0.0, (k - 100) / 200) * 0.6
        for finding in lidar.check(weighed(share)):
            if finding.alarm:
                found.setdefault(finding.fault, share)
    assert set(found) == {Fault.DIM} and 0.25 < found[Fault.DIM] < 0.45


def test_dirt_on_the_window_of_a_lidar_and_on_the_lens_of_depth_is_a_cover() -> None:
    lidar, depth, holes = Lidar(), Depth(), ROOM.copy()
    holes[120:200, 100:180] = np.nan
    for k in range(90):
        cloud, turn = sweep(), np.linspace(-180, 180, 400, endpoint=False).repeat(16)
        if k >= 50:
            kept = ~((np.abs(turn) < 40) & (cloud.ring < 12) & (cloud.ring > 3))
            cloud = replace(cloud, xyz=cloud.xyz[kept], ring=cloud.ring[kept])
        found = faults(lidar.check(cloud)), faults(depth.check(holes if k >= 50 else ROOM))
        assert k >= 50 or found == ([], [])
    assert found == ([(Fault.COVERED, False)], [(Fault.COVERED, False)])


def dusty(share: float) -> tuple[Cloud, np.ndarray]:
    """The sweep and the room, and dust before this share of them."""
    cloud, metres = sweep(), ROOM + RNG.normal(0, 0.01, ROOM.shape)
    away = np.linalg.norm(cloud.xyz, axis=1)
    hit = RNG.random(len(away)) < share
    near = np.where(hit, RNG.uniform(0.4, 6, len(away)) / away, 1)
    cloud = replace(cloud, xyz=(cloud.xyz * near[:, None]).astype(np.float32))
    thick = RNG.uniform(0.4, 3, ROOM.shape)
    return cloud, np.where(RNG.random(ROOM.shape) < share, thick, metres).astype(np.float32)


def test_dust_before_a_lidar_and_before_depth_is_haze_however_slowly_it_comes() -> None:
    lidar, depth, found = Lidar(), Depth(), {}
    for k in range(300):
        share = max(0.0, (k - 100) / 200) * 0.3
        cloud, metres = dusty(share)
        for name, findings in (("lidar", lidar.check(cloud)), ("depth", depth.check(metres))):
            for finding in findings:
                if finding.alarm:
                    found.setdefault((name, finding.fault), share)
    assert set(found) == {("lidar", Fault.HAZY), ("depth", Fault.HAZY)}
    assert all(0.03 < share < 0.25 for share in found.values())


def test_a_lidar_that_has_always_been_in_fog_is_as_ever() -> None:
    lidar = Lidar()
    for _ in range(60):
        assert faults(lidar.check(dusty(0.1)[0])) == []


@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
def test_a_part_that_stands_still_is_stuck_in_part(share: float) -> None:
    lidar, depth, kept = Lidar(), Depth(), None
    for k in range(30):
        metres = (np.roll(ROOM, 4 * k, axis=1) + RNG.normal(0, 0.01, ROOM.shape)).astype(np.float32)
        cloud = sweep()
        kept = kept or (metres.copy(), cloud)
        if k >= 15:
            width = round(share * metres.shape[1])
            metres[:, :width] = kept[0][:, :width]
            ahead = np.abs(np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0])) < share * np.pi
            old = np.abs(np.arctan2(kept[1].xyz[:, 1], kept[1].xyz[:, 0])) < share * np.pi
            xyz = np.concatenate([cloud.xyz[~ahead], kept[1].xyz[old]])
            ring = np.concatenate([cloud.ring[~ahead], kept[1].ring[old]])
            cloud = replace(cloud, xyz=xyz, ring=ring)
        found = faults(lidar.check(cloud)), faults(depth.check(metres))
        if k < 15:
            assert found == ([], [])
    assert found == ([(Fault.STUCK, False)], [(Fault.STUCK, False)])


def test_a_depth_camera_that_is_blind_on_one_side_is_covered_and_one_below_an_open_sky_is_not() -> (
    None
):
    depth, sky = Depth(), Depth()
    for k in range(80):
        metres = (ROOM + RNG.normal(0, 0.01, ROOM.shape)).astype(np.float32)
        above = metres.copy()
        if k >= 50:
            metres[:, :100] = np.nan
            above[:150, :100] = np.nan  # nothing but silence above, and the ground below
        found = faults(depth.check(metres)), faults(sky.check(above))
        assert k >= 50 or found == ([], [])
    assert found == ([(Fault.COVERED, False)], [])


def test_a_first_scan_without_returns_is_empty() -> None:
    assert faults(Lidar().check(scan(0))) == [(Fault.EMPTY_CLOUD, True)]


def test_a_lidar_that_always_had_a_blind_sector_is_well() -> None:
    lidar = Lidar()
    for _ in range(10):
        assert faults(lidar.check(scan(6000, lambda a: np.abs(a) > 0.6))) == []


def test_channels_are_range_intensity_and_height_and_zero_is_no_return() -> None:
    view = View((96, 128))
    view.set_camera_info("rgb", makers.camera_info(height=96, width=128, fx=100))
    view.add_transforms(makers.transform("camera", "lidar", (0, 0, 0)))
    points = np.zeros(3, [(n, "<f4") for n in "xyz"] + [("intensity", "<f4")])
    points["z"], points["x"], points["y"] = [10, 20, 5], [0, 4, 0], [0, 0, -2]
    points["intensity"] = [51, 255, 0]
    lidar = Lidar(encoding={"grow": 1, "max_range_m": 40, "lowest_m": -2, "highest_m": 3})
    data = lidar.decode(makers.cloud(points), 0)
    array = lidar.encode([Reading("lidar", 0, "lidar", data)], view, 0)
    assert (array[0] > 0).sum() == 3
    np.testing.assert_allclose(array[:, 48, 64], [0.25, 0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(array[:, 48, 84], [np.sqrt(416) / 40, 1, 0.4], rtol=1e-6)
    np.testing.assert_allclose(array[:, 8, 64], [np.sqrt(29) / 40, 0, 0.8], rtol=1e-6)


def test_a_lidar_that_cannot_be_placed_is_unusable_until_it_can() -> None:
    lidar, view = Lidar(), View((96, 128))
    assert lidar.usable("lidar", view) is Fault.NO_CALIB
    view.set_camera_info("rgb", makers.camera_info())
    assert lidar.usable("lidar", view) is Fault.NO_TF
    with pytest.raises(Rejection, match="no transform"):
        lidar.encode([Reading("lidar", 0, "lidar", scan())], view, 0)
    view.add_transforms(makers.transform("lidar", "camera"))
    assert lidar.usable("lidar", view) is None


# -- events -----------------------------------------------------------------------------------

START = [0x8005, 0x6010, 0x0003]


def packet(words: list[int], stamp_ns: int = 1000 * MS, **options):
    return makers.events(np.array(words, np.uint16), stamp_ns, **options)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([*START, 0x2001], []),
        ([], [(Fault.NO_EVENTS, False)]),
        (START, [(Fault.NO_EVENTS, False)]),
        ([*START, 0x2001] + [0x1234] * 3, [(Fault.UNDECODABLE, True)]),
        ([*START, 0x27FF, 0x27FE], [(Fault.UNDECODABLE, True)]),
    ],
)
def test_packets_are_judged_by_what_is_in_them(words: list[int], expected) -> None:
    camera = Event()
    assert faults(camera.check(camera.decode(packet(words), 0))) == expected


def test_another_event_encoding_is_named_beside_the_supported_one() -> None:
    with pytest.raises(Rejection, match=r"'evt4'; supported: .*evt3") as caught:
        Event().decode(packet([], encoding="evt4"), 0)
    assert caught.value.finding.fault is Fault.UNDECODABLE


def test_a_flood_is_thinned_and_said() -> None:
    camera = Event(limits={"flood_rate": 1e6})
    data = camera.decode(packet([*START] + [0x2001] * 5000), 0)
    (finding,) = camera.check(data)
    assert isinstance(finding, Finding)
    assert (finding.fault, finding.fatal) == (Fault.EVENT_FLOOD, False)
    assert data.stride == 5
    assert len(data.events.t) == 1000
    array = camera.encode([Reading("event", 0, "e", data)], View((480, 640)), 0)
    assert array[1, 3, 1] == 1


def stream(
    camera: Event,
    seconds: float,
    *,
    hot: int = 0,
    on: float = 0.5,
    cut: float = 1.0,
    clock: float = 1.0,
    seqs=None,
) -> list[list[tuple[Fault, bool]]]:
    """What is said of 10 ms packets of 300 events each; `hot` pixels fire thirty times in each."""
    said = []
    for k in range(round(seconds * 100)):
        count = 300 + 30 * hot
        t_us = np.sort(RNG.integers(0, 10_000, count)) + k * 10_000
        x, y = RNG.integers(0, 640, count), RNG.integers(0, 480, count)
        picked = RNG.permutation(count)[: 30 * hot]
        x[picked], y[picked] = np.resize(100 * np.arange(max(hot, 1)), 30 * hot), 77
        words = encode_evt3(x, y, RNG.random(count) < on, (t_us * clock).astype(np.int64))
        words = words[: round(cut * len(words))] if k >= 40 else words
        seq = k if seqs is None else seqs(k)
        message = makers.events(words, 1000 * MS + 10 * k * MS, seq=seq)
        said.append(faults(camera.check(camera.decode(message, message_stamp(message)))))
    return said


def message_stamp(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, None),
        ({"on": 0.2}, None),
        ({"on": 0.99}, (Fault.POLARITY, False)),
        ({"hot": 4}, (Fault.HOT_PIXELS, False)),
        ({"cut": 0.5}, (Fault.FORMAT, False)),
        ({"clock": 0.01}, (Fault.SENSOR_CLOCK, True)),
        ({"seqs": lambda k: k + 3 * (k // 10)}, (Fault.SEQUENCE_GAP, False)),
        ({"seqs": lambda k: k + k // 50}, None),
        ({"seqs": lambda k: k ^ 1}, None),
        ({"seqs": lambda k: k % 60}, None),
    ],
)
def test_events_are_judged_by_a_stretch_of_them(options, found) -> None:
    said = stream(Event(), 1.2, **options)
    assert {fault for row in said[60:] for fault in row} == ({found} if found else set())


def test_a_lamp_that_flickers_is_no_hot_pixel() -> None:
    camera = Event()
    for k in range(60):
        t_us = np.sort(RNG.integers(0, 10_000, 600)) + k * 10_000
        x, y = RNG.integers(0, 640, 600), RNG.integers(0, 480, 600)
        x[::2], y[::2] = RNG.integers(200, 206, 300), RNG.integers(100, 106, 300)
        message = makers.events(encode_evt3(x, y, RNG.random(600) < 0.5, t_us), 10 * k * MS, seq=k)
        assert faults(camera.check(camera.decode(message, 10 * k * MS))) == []


def test_a_lost_packet_makes_the_decoder_wait_for_the_clock() -> None:
    camera = Event()
    assert len(camera.decode(packet([*START, 0x2001], seq=7), 0).events.t) == 1
    assert len(camera.decode(packet([0x2002], seq=8), 0).events.t) == 1
    after = camera.decode(packet([0x2003, *START, 0x2004], seq=11), 0)
    assert after.lost
    assert camera.lost_packets == 1
    assert after.events.x.tolist() == [4]


def test_events_are_timed_from_the_stamp_of_their_packet() -> None:
    data = Event().decode(packet([*START, 0x2001, 0x6015, 0x2002]), 7_000)
    assert (data.zero_ns + data.events.t * 1000).tolist() == [7_000, 12_000]


@given(st.integers(0, 40), st.integers(-30_000, 30_000), st.integers(0, 30_000))
def test_a_window_ends_with_the_event_at_its_very_end_and_begins_after_its_beginning(
    stamp_ns: int, since_ns: int, span_ns: int
) -> None:
    words = [word for us in range(1, 12) for word in (0x6000 + us, 0x2000 + us)]
    data = Event().decode(packet([*START, *words]), stamp_ns)
    t_ns = data.zero_ns + data.events.t * 1000
    expected = (t_ns > since_ns) & (t_ns <= since_ns + span_ns)
    assert data.within(since_ns, since_ns + span_ns).tolist() == np.flatnonzero(expected).tolist()


def test_only_events_of_the_window_before_the_set_are_counted() -> None:
    camera = Event(encoding={"window_ms": 10, "clip": 4})
    readings = []
    for seq, ms in enumerate((85, 90, 91, 99, 100, 101)):  # (90, 100] counts
        stamp = ms * MS
        data = camera.decode(packet([*START, 0x2801, 0x2002], stamp, seq=seq), stamp)
        readings.append(Reading("event", stamp, "event_camera", data))
    array = camera.encode(readings, View((480, 640)), 100 * MS)
    assert array[0, 3, 1] == 0.75  # ON
    assert array[1, 3, 2] == 0.75  # OFF
    assert array.sum() == 1.5


def test_an_empty_packet_of_a_still_scene_never_looks_frozen() -> None:
    camera = Event()
    assert camera.digest(packet([], seq=1)) != camera.digest(packet([], seq=2))
    assert camera.digest(packet(START, seq=1)) == camera.digest(packet(START, seq=2))
