"""Those who move through the simulated street, and the rays that meet them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("open3d", reason="the simulator needs open3d (extra `sim`)")

from robustseg_core.sim.actors import WALKER, Actor, Part, library
from robustseg_core.sim.camera_sensor import RgbCamera
from robustseg_core.sim.crowd import Crowd
from robustseg_core.sim.culling import meetings, neighborly
from robustseg_core.sim.materials import CLASS
from robustseg_core.sim.world import World

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, FX = 96, 160, 100.0
BASE_FROM_CAMERA = np.array(
    [[0, 0, 1, 1.2], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]], np.float64
)


@pytest.fixture(scope="module")
def clear() -> World:
    return World(1, length_m=160.0)


def crowd_of(world: World, *actors: Actor) -> Crowd:
    return Crowd(actors, world.layout.streets[0], world.motion, library())


def test_a_walker_swings_the_legs(clear):
    crowd = crowd_of(clear, Actor("person", WALKER, lateral_m=8.0, way_m=30.0, speed_mps=1.2))
    body, *limbs = np.swapaxes([crowd.at(t).turn for t in (0.0, 0.3)], 0, 1)
    np.testing.assert_allclose(*body, atol=0.02)  # the street may bend
    assert all(np.abs(before - after).max() > 0.05 for before, after in limbs)


def test_who_crosses_starts_on_one_sidewalk_and_stays_on_the_other(clear):
    edge = clear.layout.streets[0].half_width_m + 1.0
    walker = Actor("person", (Part("person"),), -edge, 30.0, 1.4, crosses_s=2.0)
    crowd = crowd_of(clear, walker)
    before, start, middle, there, later = (
        crowd.at(t).center[0] for t in (0.0, 2.0, 2 + edge / 1.4, 2 + 2 * edge / 1.4, 60.0)
    )
    np.testing.assert_array_equal(before, start)
    np.testing.assert_allclose(there, later, atol=1e-9)
    np.testing.assert_allclose(middle[:2], (start[:2] + there[:2]) / 2, atol=1e-6)
    assert np.linalg.norm(there - start) == pytest.approx(2 * edge)
    assert start[2] > middle[2], "the sidewalks lie higher than the road"


def test_who_leads_the_ego_keeps_its_distance(clear):
    crowd = crowd_of(clear, Actor("car", (Part("car0"),), -1.75, 12.0, 1.0, leads_s=1.5))
    for t_s in (1.0, 5.0, 9.0):
        place, _ = clear.layout.streets[0].at(clear.motion.way_m(t_s + 1.5) + 12.0, -1.75)
        np.testing.assert_allclose(crowd.at(t_s).center[0, :2], place, atol=0.2)


def scattered(count: int, seed: int) -> np.ndarray:
    """Rays (N, 6) from all over a street, in all directions."""
    rng = np.random.default_rng(seed)
    way = rng.normal(size=(count, 3))
    place = rng.uniform((0, -8, 0.2), (60, 8, 2.5), (count, 3))
    return np.concatenate([place, way / np.linalg.norm(way, axis=1, keepdims=True)], 1).astype("f4")


def test_bundles_spare_rays_but_lose_none(clear):
    """Against every part's box, by the slabs in its own frame, without any bundles."""
    crowd, moment, rays = clear.crowd, clear.crowd.at(3.0), scattered(3000, 3)
    limit = np.random.default_rng(4).uniform(0, 60, len(rays)).astype(np.float32)
    found = meetings(rays, None, limit, crowd, moment)
    pairs = set(zip(found.ray.tolist(), found.part.tolist(), strict=True))
    for p in range(len(moment.turn)):
        start = rays[:, :3] @ moment.turn[p].T + moment.shift[p]
        slabs = [(edge[p] - start) / (rays[:, 3:] @ moment.turn[p].T) for edge in
                 (crowd.low, crowd.high)]  # fmt: skip
        enter = np.min(slabs, 0).max(1)
        leave = np.max(slabs, 0).min(1)
        wanted = (np.maximum(enter, 0) < leave - 1e-3) & (np.maximum(enter, 0) < limit - 1e-3)
        assert not {(n, p) for n in np.flatnonzero(wanted)} - pairs
    assert 500 < len(pairs) < 0.01 * len(rays) * len(moment.turn)


def test_the_order_of_rays_changes_nothing_but_the_speed(clear):
    camera = RgbCamera(HEIGHT, WIDTH, FX, 5)
    ordered, directions, origin = camera.cast(clear, clear.ego_pose(4.0) @ BASE_FROM_CAMERA, 4.0)
    plain = clear.cast(origin, directions, 4.0)
    for name in ("distance_m", "class_id", "albedo", "normal", "material"):
        np.testing.assert_array_equal(getattr(ordered, name), getattr(plain, name))
    cells = neighborly(HEIGHT, WIDTH)
    np.testing.assert_array_equal(np.sort(cells), np.arange(HEIGHT * WIDTH))
    rows, columns = np.divmod(cells[:64], WIDTH)
    assert rows.max() == columns.max() == 7


def test_a_car_is_hit_where_it_stands(clear):
    """Straight down from above, beside all others: its roof; and nothing where it has left."""
    above = np.array([[x, y, 40.0] for x, y in clear.crowd.at(2.0).center[:, :2]])
    down = np.tile(np.float32([0, 0, -1]), (len(above), 1))
    kinds = clear.cast(above, down, 2.0)
    high = 40 - kinds.distance_m
    cars = kinds.class_id == CLASS["car"]
    assert cars.sum() > 5
    assert (high[cars] > 0.6).all() and (high[cars] < 2.1).all()
    under = above[cars] * (1, 1, 0) + (0, 0, 0.05)
    assert clear.occluded(under, np.array([0, 0, 1.0]), 2.0).all()
    gone = clear.cast(above[cars], down[cars], 2.7)
    assert (gone.class_id != CLASS["car"]).mean() > 0.5
    assert clear.occluded(under, np.array([0, 0, 1.0]), 2.7).mean() < 0.5
