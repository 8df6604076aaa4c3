"""Content checks: each fault is named, and its harmless twin raises no alarm."""

from __future__ import annotations

import cv2
import makers
import numpy as np
import pytest

from robustseg_core.decode.points import Cloud
from robustseg_core.modalities.depth import Depth
from robustseg_core.modalities.event import Event
from robustseg_core.modalities.lidar import Lidar
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.types import MS, Fault, Finding, Reading, Rejection
from robustseg_core.view import View

RNG = np.random.default_rng(23)
SCENE = np.clip(
    cv2.resize(RNG.integers(20, 236, (30, 40, 3)).astype(np.float32), (320, 240))
    + RNG.normal(0, 3, (240, 320, 3)), 0, 255,
).astype(np.uint8)  # fmt: skip


def faults(findings) -> list[tuple[Fault, bool]]:
    return [(f.fault, f.fatal) for f in findings]


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
    assert faults(Rgb().judge(image)) == expected


def test_a_night_scene_is_dark_and_legal() -> None:
    assert not any(f.fatal for f in Rgb().judge(night()))


def test_a_colored_wall_in_one_channel_is_not_flat() -> None:
    image = np.full((240, 320, 3), 127, np.uint8)
    image[..., 0] = np.linspace(0, 255, 320)
    assert Fault.FLAT not in [fault for fault, fatal in faults(Rgb().judge(image)) if fatal]


@pytest.mark.parametrize(("share", "fatal"), [(0.2, None), (0.4, False), (0.8, False), (1, True)])
def test_a_lens_covered_in_part_degrades_the_image(share: float, fatal: bool | None) -> None:
    image = SCENE.copy()
    image[: int(240 * share)] = 40
    image[..., :2, :] += 1  # not one exact color
    found = [f for f in Rgb().judge(image) if f.fault in (Fault.COVERED, Fault.FLAT)]
    if fatal is None:
        assert found == []
    else:
        (finding,) = found
        assert finding.fatal is fatal
        assert finding.score < 0.5


def test_a_camera_that_loses_focus_degrades_and_a_dimmed_one_does_not() -> None:
    camera = Rgb()
    for _ in range(12):
        assert list(camera.judge(SCENE)) == []
    assert list(camera.judge(SCENE // 2)) == []
    blurred = cv2.GaussianBlur(SCENE, (0, 0), 6)
    assert faults(camera.judge(blurred)) == [(Fault.BLURRED, False)]
    camera.reset()
    assert list(camera.judge(blurred)) == []


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
    assert faults(Depth().judge(depth_m)) == expected


def test_depth_that_lost_most_of_its_pixels_degrades() -> None:
    depth, holes = Depth(), ROOM.copy()
    holes[:200] = np.nan
    assert list(depth.judge(holes)) == []
    for _ in range(20):
        assert list(depth.judge(ROOM)) == []
    assert faults(depth.judge(holes)) == [(Fault.INVALID_DEPTH, False)]


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
        assert list(lidar.judge(scan())) == []
    return lidar


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        (scan(5500), []),
        (scan(2000), [(Fault.SPARSE_CLOUD, False)]),
        (scan(20), [(Fault.EMPTY_CLOUD, True)]),
        (scan(6000, lambda a: np.abs(a) > 0.6), [(Fault.SPARSE_CLOUD, False)]),
    ],
)
def test_a_lidar_that_sees_less_than_usual_is_found_out(cloud: Cloud, expected) -> None:
    assert faults(seasoned().judge(cloud)) == expected


def test_a_first_scan_without_returns_is_empty() -> None:
    assert faults(Lidar().judge(scan(0))) == [(Fault.EMPTY_CLOUD, True)]


def test_a_lidar_that_always_had_a_blind_sector_is_well() -> None:
    lidar = Lidar()
    for _ in range(10):
        assert list(lidar.judge(scan(6000, lambda a: np.abs(a) > 0.6))) == []


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
    assert faults(camera.judge(camera.decode(packet(words), 0))) == expected


def test_another_event_encoding_is_named_beside_the_supported_one() -> None:
    with pytest.raises(Rejection, match="'evt21'; supported: evt3") as caught:
        Event().decode(packet([], encoding="evt21"), 0)
    assert caught.value.finding.fault is Fault.UNDECODABLE


def test_a_flood_is_thinned_and_said() -> None:
    camera = Event(limits={"flood_rate": 1e6})
    data = camera.decode(packet([*START] + [0x2001] * 5000), 0)
    (finding,) = camera.judge(data)
    assert isinstance(finding, Finding)
    assert (finding.fault, finding.fatal) == (Fault.EVENT_FLOOD, False)
    assert data.stride == 5
    assert len(data.t_ns) == 1000
    array = camera.encode([Reading("event", 0, "e", data)], View((480, 640)), 0)
    assert array[1, 3, 1] == 1


def test_a_lost_packet_makes_the_decoder_wait_for_the_clock() -> None:
    camera = Event()
    assert len(camera.decode(packet([*START, 0x2001], seq=7), 0).t_ns) == 1
    assert len(camera.decode(packet([0x2002], seq=8), 0).t_ns) == 1
    after = camera.decode(packet([0x2003, *START, 0x2004], seq=11), 0)
    assert after.lost
    assert camera.lost_packets == 1
    assert after.events.x.tolist() == [4]


def test_events_are_timed_from_the_stamp_of_their_packet() -> None:
    data = Event().decode(packet([*START, 0x2001, 0x6015, 0x2002]), 7_000)
    assert data.t_ns.tolist() == [7_000, 12_000]


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
