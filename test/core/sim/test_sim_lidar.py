"""The simulated LiDAR before a world that is known to the last decimal: a ground, a wall, a box."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.codecs.points import decode_points
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities.lidar import Lidar as LidarModality
from robustseg_core.sim.lidar_sensor import ELEVATIONS_DEG, POINT, Lidar, to_message
from robustseg_core.sim.materials import MATERIAL

WALL_M = 20.0
PERIOD_S = 0.1


@dataclass(frozen=True)
class Hits:
    distance_m: np.ndarray
    normal: np.ndarray
    material: np.ndarray


@dataclass(frozen=True)
class Weather:
    fog_extinction_per_m: float = 0.0
    rain_mm_h: float = 0.0


@dataclass(frozen=True)
class World:
    """Planes z = 0, x = 20 and (if `glass`) y = 10; a robot that drives ahead and turns left."""

    weather: Weather = field(default_factory=Weather)
    speed_m_s: float = 0.0
    yaw_rad_s: float = 0.0
    wall: str = "concrete"
    glass: bool = False
    box_speed_m_s: float | None = None
    """A box whose side y = 5 + speed * t faces the robot, 4 m long."""

    def ego_pose(self, t_s: float) -> np.ndarray:
        yaw = self.yaw_rad_s * t_s
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[0, 3] = self.speed_m_s * t_s
        return pose

    def cast(self, origins: np.ndarray, directions: np.ndarray, t_s: float, *, order) -> Hits:
        assert (np.sort(order) == np.arange(len(directions))).all()
        assert np.allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-4)
        planes = [(2, 0.0, 1.0, "asphalt", 1e9), (0, WALL_M, -1.0, self.wall, 1e9)]
        if self.glass:
            planes.append((1, 10.0, -1.0, "glass", 1e9))
        if self.box_speed_m_s is not None:
            planes.append((1, 5.0 + self.box_speed_m_s * t_s, -1.0, "paint", 2.0))
        best = np.full(len(directions), np.inf, np.float32)
        normal = np.zeros((len(directions), 3), np.float32)
        material = np.zeros(len(directions), np.uint8)
        for axis, place, sign, name, half in planes:
            with np.errstate(all="ignore"):
                distance = (place - origins[:, axis]) / directions[:, axis]
                along = origins[:, 0] + distance * directions[:, 0]
            nearer = (distance > 0) & (distance < best) & (np.abs(along) < half)
            best[nearer] = distance[nearer]
            normal[nearer] = sign * np.eye(3)[axis]
            material[nearer] = MATERIAL[name]
        return Hits(best, normal, material)


BASE_FROM_LIDAR = np.eye(4)
BASE_FROM_LIDAR[2, 3] = 1.8


def sweep(world: World, t_s: float = 0.0, *, compensated: bool = True, **options) -> np.ndarray:
    lidar = Lidar(**{"columns": 512, "seed": 3} | options)
    return lidar.sweep(world, BASE_FROM_LIDAR, t_s, motion_compensated=compensated)


def xyz(points: np.ndarray) -> np.ndarray:
    return np.stack([points["x"], points["y"], points["z"]], axis=1).astype(np.float64)


def on_wall(points: np.ndarray) -> np.ndarray:
    return points[(points["x"] > 10) & (points["z"] > -1.5)]


@pytest.mark.parametrize("rings", [16, 32, 64])
def test_points_of_a_still_scene_lie_on_its_surfaces(rings: int):
    points = sweep(World(), rings=rings)
    wall, ground = on_wall(points), points[(points["x"] < 10) & (points["z"] < -1)]
    assert min(len(wall), len(ground)) > 500
    assert np.median(np.abs(wall["x"] - WALL_M)) < 0.03
    assert np.median(np.abs(ground["z"] + 1.8)) < 0.03
    residual = (np.linalg.norm(xyz(wall), axis=1) * (1 - WALL_M / wall["x"])).std()
    assert 0.015 < residual < 0.025  # the ranges' noise of 2 cm


def test_rings_look_where_their_elevation_says_and_time_goes_on():
    points = sweep(World(), range_noise_m=0.0)
    assert np.all(np.diff(points["time"]) >= 0)
    assert 0 <= points["time"].min() <= points["time"].max() < PERIOD_S
    there = xyz(points)
    elevation = np.degrees(np.arctan2(there[:, 2], np.hypot(there[:, 0], there[:, 1])))
    np.testing.assert_allclose(elevation, ELEVATIONS_DEG[32][points["ring"]], atol=0.01)
    # clockwise from behind: left at a quarter of the turn, ahead at half of it
    turned = np.radians(180) - np.arctan2(there[:, 1], there[:, 0])
    spacing = 2 * np.pi / 512
    expected = points["time"] / PERIOD_S * 2 * np.pi + spacing / 2
    np.testing.assert_allclose(turned, expected, atol=0.01 * spacing)


@settings(max_examples=10)
@given(
    speed=st.floats(-20, 20), yaw=st.floats(-1, 1), t_s=st.floats(0, 0.5), slices=st.integers(4, 40)
)
def test_a_deskewed_sweep_of_a_moving_robot_shows_the_world_as_it_is(speed, yaw, t_s, slices):
    world = World(speed_m_s=speed, yaw_rad_s=yaw)
    points = sweep(world, t_s, slices=slices, columns=256, range_noise_m=0.0)
    world_from_lidar = world.ego_pose(t_s) @ BASE_FROM_LIDAR
    there = xyz(points) @ world_from_lidar[:3, :3].T + world_from_lidar[:3, 3]
    to_plane = np.minimum(np.abs(there[:, 0] - WALL_M), np.abs(there[:, 2]))
    assert np.median(to_plane) < 1e-3
    assert to_plane.max() < 0.02


def test_without_compensation_each_point_lies_where_its_own_firing_saw_it():
    world = World(speed_m_s=20.0)
    wall = on_wall(sweep(world, compensated=False, range_noise_m=0.0))
    np.testing.assert_allclose(wall["x"], WALL_M - 20.0 * wall["time"], atol=2e-3)
    assert np.ptp(wall["x"]) > 0.3  # the skew is there to be seen
    deskewed = on_wall(sweep(world, range_noise_m=0.0))
    np.testing.assert_allclose(deskewed["x"], WALL_M, atol=2e-3)


def test_a_passing_box_is_seen_where_it_was_when_the_beam_met_it():
    points = sweep(World(box_speed_m_s=10.0), range_noise_m=0.0, slices=32)
    side = points[(np.abs(points["x"]) < 1.9) & (points["y"] > 4) & (points["z"] > -1.5)]
    assert len(side) > 50
    np.testing.assert_allclose(side["y"], 5 + 10 * side["time"], atol=10 * PERIOD_S / 32)


def test_fog_shortens_the_sight_and_echoes_before_the_wall():
    reach, ghosts = [], []
    for extinction in (0.0, 0.03, 0.1):
        points = sweep(World(Weather(fog_extinction_per_m=extinction)))
        there = xyz(points)
        on_plane = (np.abs(there[:, 0] - WALL_M) < 0.2) | (np.abs(there[:, 2] + 1.8) < 0.2)
        reach.append(np.percentile(np.linalg.norm(there[on_plane], axis=1), 99))
        ghosts.append(int((~on_plane).sum()))
    assert reach[0] > reach[1] > reach[2]
    assert ghosts[0] < ghosts[1] < ghosts[2]


def test_rain_leaves_a_few_drops_in_the_air():
    def in_the_air(rain: float) -> float:
        there = xyz(sweep(World(Weather(rain_mm_h=rain))))
        return float(np.mean((np.abs(there[:, 0] - WALL_M) > 0.2) & (there[:, 2] > -1.5)))

    assert in_the_air(0) == 0
    assert 0.0005 < in_the_air(10) < in_the_air(50) < 0.2


def test_rain_within_the_airs_extinction_dims_only_once():
    per_meter = 1.076 * 20**0.67 / 4343
    alone, within = (sweep(World(Weather(air, 20.0))) for air in (0.0, per_meter))
    assert len(alone) == pytest.approx(len(within), rel=0.002)
    assert len(sweep(World(Weather(4 * per_meter, 20.0)))) != pytest.approx(len(alone), rel=0.002)


def test_grazing_and_distant_ground_returns_less_often():
    points = sweep(World(), rings=64, columns=1024)
    ground = points[(points["x"] < 0) & (points["z"] < -1)]
    share = np.bincount(ground["ring"], minlength=64)[:31] / 512  # half of the columns look back
    distance = -1.8 / np.sin(np.radians(ELEVATIONS_DEG[64][:31]))
    zones = ((5, 12), (20, 40), (50, 100))
    near, middle, far = (share[(distance > a) & (distance < b)].mean() for a, b in zones)
    assert near > 0.95
    assert near > middle > far


def test_glass_is_seen_only_where_it_is_met_straight_on():
    def seen(wall: str) -> tuple[int, int]:
        points = on_wall(sweep(World(wall=wall), columns=2048))
        aside = np.abs(points["y"]) > 10  # 27 degrees and more
        return int(aside.sum()), int((np.abs(points["y"]) < 3).sum())

    (glass_aside, glass_ahead), (wall_aside, wall_ahead) = seen("glass"), seen("concrete")
    assert glass_ahead > 0.8 * wall_ahead
    assert glass_aside < 0.2 * wall_aside


def test_bright_surfaces_give_bright_returns():
    def brightness(wall: str) -> float:
        points = on_wall(sweep(World(wall=wall)))
        assert points["intensity"].max() <= 255
        return float(np.median(points["intensity"][np.abs(points["y"]) < 3]))

    assert brightness("rubber") < brightness("concrete") < brightness("retroreflector")
    assert brightness("concrete") == pytest.approx(255 * 0.35, rel=0.3)


def test_nothing_returns_from_beyond_the_sensors_range():
    points = sweep(World(wall="retroreflector"), max_range_m=15.0, min_range_m=5.0)
    distance = np.linalg.norm(xyz(points), axis=1)
    assert len(points) > 100
    assert distance.min() >= 5 - 1e-3
    assert distance.max() <= 15 + 1e-3


def test_a_sweep_depends_on_its_seed_and_its_time_only():
    foggy = World(Weather(0.05, 20.0))
    lidar = Lidar(columns=128, seed=5)
    first = lidar.sweep(foggy, BASE_FROM_LIDAR, 0.3)
    lidar.sweep(foggy, BASE_FROM_LIDAR, 0.4)
    again = lidar.sweep(foggy, BASE_FROM_LIDAR, 0.3)
    assert first.tobytes() == again.tobytes()
    other = Lidar(columns=128, seed=6).sweep(foggy, BASE_FROM_LIDAR, 0.3)
    assert first.tobytes() != other.tobytes()


def test_its_message_is_a_cloud_that_the_robot_reads():
    points = sweep(World())
    message = to_message(points, 12_345_678_901, "lidar")
    cloud = decode_points(message)
    assert (message.point_step, message.header.stamp.sec) == (22, 12)
    assert message.header.stamp.nanosec == 345_678_901
    assert [f.name for f in message.fields] == list(POINT.names)
    np.testing.assert_array_equal(cloud.xyz, xyz(points).astype(np.float32))
    np.testing.assert_array_equal(cloud.ring, points["ring"])
    assert list(LidarModality().check(cloud)) == []
    assert len(decode_points(to_message(points[:0], 0, "lidar")).xyz) == 0


@pytest.mark.parametrize(
    "options", [{"rings": 24}, {"slices": 0}, {"rate_hz": 0.0}, {"min_range_m": 200.0}]
)
def test_an_impossible_sensor_is_refused(options: dict):
    with pytest.raises(RobustsegError):
        Lidar(**options)


def test_a_table_of_something_else_is_no_sweep():
    with pytest.raises(RobustsegError, match="expected"):
        to_message(np.zeros(3, np.float32), 0, "lidar")
