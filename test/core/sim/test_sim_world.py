"""The simulated street: the same for everyone who knows its seed, and true to its own geometry."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("open3d", reason="the simulator needs open3d (extra `sim`)")

from robustseg_core.errors import RobustsegError
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.sim.camera_sensor import RgbCamera
from robustseg_core.sim.depth_sensor import DepthCamera
from robustseg_core.sim.materials import CLASS, MATERIALS
from robustseg_core.sim.weather import CONDITIONS, weather_from
from robustseg_core.sim.world import World

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, FX = 96, 160, 100.0
LENGTH_M = 160.0
BASE_FROM_CAMERA = np.array(
    [[0, 0, 1, 1.2], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]], np.float64
)


def make(seed: int, *conditions: str) -> World:
    return World(seed, conditions=frozenset(conditions or ("clear",)), length_m=LENGTH_M)


def view(world: World, t_s: float) -> np.ndarray:
    return world.ego_pose(t_s) @ BASE_FROM_CAMERA


def shoot(world: World, t_s: float, **options):
    return RgbCamera(HEIGHT, WIDTH, FX, 5).render(world, view(world, t_s), t_s, **options)


@pytest.fixture(scope="module")
def clear() -> World:
    return make(1)


@pytest.fixture(scope="module")
def night() -> World:
    return make(1, "night")


@pytest.fixture(scope="module")
def fog() -> World:
    return make(1, "fog")


def test_a_seed_gives_the_same_bytes_every_time(clear):
    again = make(1)
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    for t_s in (0.4, 6.0):
        for one, two in zip(shoot(clear, t_s), shoot(again, t_s), strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(
        camera.radiance(clear, view(clear, 3.0), 3.0), camera.radiance(again, view(again, 3.0), 3.0)
    )
    depth = DepthCamera(HEIGHT, WIDTH, FX, 5)
    np.testing.assert_array_equal(
        depth.render(clear, view(clear, 3.0), 3.0), depth.render(again, view(again, 3.0), 3.0)
    )


def test_another_seed_is_another_city(clear):
    other = make(2)
    assert other.layout.streets[0].crossings != clear.layout.streets[0].crossings
    (_, here), (_, there) = shoot(clear, 2.0), shoot(other, 2.0)
    assert (here != there).mean() > 0.1


def test_weather_changes_the_light_but_never_the_street(clear, night, fog):
    (day_rgb, day), (night_rgb, dark), (fog_rgb, veiled) = (
        shoot(world, 4.0) for world in (clear, night, fog)
    )
    np.testing.assert_array_equal(day, dark)
    np.testing.assert_array_equal(day, veiled)
    assert night_rgb.mean() < 0.6 * day_rgb.mean()
    assert fog_rgb.std() < day_rgb.std()


@pytest.mark.parametrize("seed", [1, 11])
def test_a_short_drive_meets_at_least_fifteen_classes(seed):
    world = make(seed)
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    counts = np.zeros(19, np.int64)
    for t_s in np.arange(0.0, 10.0, 1.0):
        hits, _, _ = camera.cast(world, view(world, t_s), t_s)
        counts += np.bincount(hits.class_id, minlength=19)
    seen = {CITYSCAPES.names[k] for k in np.flatnonzero(counts > 5)}
    assert len(seen) >= 15
    assert {"road", "building", "person", "rider", "pole", "traffic sign", "car"} <= seen


def test_hits_keep_their_contract(clear):
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    hits, directions, origin = camera.cast(clear, view(clear, 4.0), 4.0)
    solid = np.isfinite(hits.distance_m)
    assert (hits.class_id[~solid] == CLASS["sky"]).all() and (~solid).any()
    assert (hits.class_id[solid] != CLASS["sky"]).all()
    assert not hits.normal[~solid].any()
    np.testing.assert_allclose(np.linalg.norm(hits.normal[solid], axis=1), 1, atol=1e-4)
    assert (np.einsum("ij,ij->i", hits.normal, directions)[solid] <= 1e-6).all()
    assert hits.albedo.min() >= 0 and hits.albedo.max() <= 1
    assert hits.material.max() < len(MATERIALS)
    kinds = [hits.distance_m, hits.class_id, hits.albedo, hits.normal, hits.material]
    assert [array.dtype for array in kinds] == ["f4", "u1", "f4", "f4", "u1"]
    many = np.broadcast_to(origin, directions.shape)
    np.testing.assert_array_equal(clear.cast(many, directions, 4.0).class_id, hits.class_id)


def test_labels_and_depth_are_of_the_same_pixels(clear):
    camera = DepthCamera(HEIGHT, WIDTH, FX, 5)
    ideal = camera.ideal(clear, view(clear, 4.0), 4.0)
    _, label = shoot(clear, 4.0)
    np.testing.assert_array_equal(np.isinf(ideal), label == CLASS["sky"])
    points = camera.camera.rays(HEIGHT, WIDTH).reshape(HEIGHT, WIDTH, 3) * ideal[..., None]
    road = points[label == CLASS["road"]].astype(np.float64)
    pose = view(clear, 4.0)
    height_m = (road @ pose[:3, :3].T + pose[:3, 3])[:, 2]
    assert np.abs(height_m).max() < 0.02


def test_fog_hides_what_is_far_and_spares_what_is_near(clear, fog):
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    pose = view(clear, 4.0)
    depth = DepthCamera(HEIGHT, WIDTH, FX, 5).ideal(clear, pose, 4.0)
    veiled = camera.radiance(fog, pose, 4.0)
    far, near = (depth > 60) & np.isfinite(depth), depth < 8
    assert far.any() and near.any()
    assert veiled[far].std() < 0.35 * camera.radiance(clear, pose, 4.0)[far].std()
    assert fog.weather.transmission(np.float32([8]))[0] > 0.6
    assert fog.weather.transmission(np.float32([100]))[0] < 0.12


def test_depth_errors_grow_with_the_square_of_range(clear):
    camera = DepthCamera(HEIGHT, WIDTH, FX, 5, disparity_px=0.05)
    errors, truths = [], []
    for t_s in (1.0, 4.0, 7.0):
        ideal = camera.ideal(clear, view(clear, t_s), t_s)
        seen = camera.render(clear, view(clear, t_s), t_s)
        assert seen.dtype == np.uint16 and not seen[np.isinf(ideal)].any()
        assert seen.max() <= 40_000
        good = seen > 0
        errors.append(np.abs(seen[good] / 1000 - ideal[good]))
        truths.append(ideal[good])
    error, truth = np.concatenate(errors), np.concatenate(truths)
    near, far = (truth > 4) & (truth < 6), (truth > 14) & (truth < 18)
    growth = np.median(error[far]) / np.median(error[near])
    assert 5 < growth < 20  # (16 / 5) squared is 10


def test_glass_and_edges_leave_holes_in_depth(clear):
    camera = DepthCamera(HEIGHT, WIDTH, FX, 5)
    rgb = RgbCamera(HEIGHT, WIDTH, FX, 5)
    holes, total = np.zeros(2), np.zeros(2)
    for t_s in (1.0, 4.0, 7.0):
        pose = view(clear, t_s)
        silent = camera.render(clear, pose, t_s).ravel() == 0
        hits, _, _ = rgb.cast(clear, pose, t_s)
        near = hits.distance_m < 20
        glossy = np.array([row.specular > 0.5 for row in MATERIALS])[hits.material]
        for k, group in enumerate((near & glossy, near & (hits.class_id == CLASS["road"]))):
            holes[k] += silent[group].sum()
            total[k] += group.sum()
    assert total.min() > 20
    glass, road = holes / total
    assert glass > 0.5 and road < 0.2


def test_the_ego_drives_smoothly_bends_and_halts_once(clear):
    times = np.arange(0.0, clear.duration_s, 0.05)
    poses = np.stack([clear.ego_pose(float(t)) for t in times])
    speed = np.linalg.norm(np.diff(poses[:, :2, 3], axis=0), axis=1) / 0.05
    heading = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    assert speed.max() < 14.5 and np.median(speed) > 5
    assert np.abs(np.diff(speed)).max() / 0.05 < 4
    assert np.abs(np.diff(heading)).max() / 0.05 < 0.5
    standing = speed[: int(0.8 * len(speed))] < 0.1
    assert 2 < standing.sum() * 0.05 < 6
    for pose in poses[::40]:
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert pose[2, 2] > 0.99
    assert np.ptp(np.unwrap(np.arctan2(*World(4, length_m=300).layout.streets[0].points.T))) > 0.05


def test_traffic_moves_and_houses_stay(clear):
    start = clear.motion.stop_s + 1.2
    pose = view(clear, start)
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    one, _, _ = camera.cast(clear, pose, start)
    two, _, _ = camera.cast(clear, pose, start + 0.8)
    movers = [CLASS[name] for name in ("person", "rider", "car", "truck", "bus", "train", "bicycle",
                                       "motorcycle")]  # fmt: skip
    fixed = ~np.isin(one.class_id, movers) & ~np.isin(two.class_id, movers)
    np.testing.assert_array_equal(one.distance_m[fixed], two.distance_m[fixed])
    np.testing.assert_array_equal(one.albedo[fixed], two.albedo[fixed])
    assert (one.distance_m != two.distance_m)[~fixed].mean() > 0.1


def test_the_sun_casts_shadows_and_a_cloud_takes_them_away(clear):
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    hits, directions, origin = camera.cast(clear, view(clear, 4.0), 4.0)
    road = hits.class_id == CLASS["road"]
    points = origin + hits.distance_m[road, None] * directions[road] + (0, 0, 0.03)
    dark = clear.occluded(points.astype(np.float32), clear.weather.sun_direction, 4.0)
    up = clear.occluded(points.astype(np.float32), np.array([0.0, 0.0, 1.0]), 4.0)
    assert dark.shape == up.shape == (road.sum(),)
    assert up.mean() < 0.4
    assert weather_from({"cloud"}, seed=1).sun_color.max() < 0.2


def test_exposure_adapts_over_frames_and_can_be_fixed(clear, night):
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    camera.render(clear, view(clear, 2.0), 2.0)
    first, _ = camera.render(night, view(night, 2.0), 2.0)
    for _ in range(8):
        last, _ = camera.render(night, view(night, 2.0), 2.0)
    assert last.mean() > 1.5 * first.mean()
    fixed = [shoot(night, 2.0, exposure=e)[0].mean() for e in (1.0, 8.0)]
    assert fixed[0] < fixed[1]


def test_an_open_shutter_blurs_the_picture_and_spares_the_label(clear):
    sharp, label = shoot(clear, 3.0, exposure=1.0)
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5, subframes=3, exposure_s=0.1)
    smeared, same = camera.render(clear, view(clear, 3.0), 3.0, exposure=1.0)
    np.testing.assert_array_equal(label, same)
    low = slice(HEIGHT // 2, None)
    assert np.abs(np.diff(smeared[low].astype(float), axis=0)).mean() < (
        np.abs(np.diff(sharp[low].astype(float), axis=0)).mean()
    )


def test_rain_wets_the_ground_and_combines_with_night():
    rain = weather_from({"rain", "night"}, seed=3)
    assert rain.rain_mm_h > 5 and rain.wetness == 1 and rain.night
    assert rain.fog_extinction_per_m > weather_from({"clear"}, seed=3).fog_extinction_per_m


@pytest.mark.parametrize("conditions", [{"snow"}, {"clear", "fog"}])
def test_weather_that_cannot_be_says_what_can(conditions):
    with pytest.raises(RobustsegError) as told:
        weather_from(conditions, seed=1)
    assert all(name in str(told.value) for name in CONDITIONS) or "contradict" in str(told.value)


def test_impossible_sizes_are_refused_in_one_sentence():
    with pytest.raises(RobustsegError, match="80 m or more"):
        World(1, length_m=10.0)
    with pytest.raises(RobustsegError, match="nearest < farthest"):
        DepthCamera(HEIGHT, WIDTH, FX, 5, range_m=(5.0, 1.0))
