"""Drives of which only spread moments are recorded, by robots that are drawn, in varied towns."""

from __future__ import annotations

import hashlib
import json
import tarfile

import numpy as np
import pytest

pytest.importorskip("open3d", reason="the simulator needs open3d (extra `sim`)")

from conftest import ROOT

from robustseg_core import config
from robustseg_core.bag import Bag
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.points import decode_points
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.extract import Extraction, extract_one
from robustseg_core.geometry.view import View
from robustseg_core.sim.drive import APART_S, moments
from robustseg_core.sim.produce import Recipe, Split, simulate
from robustseg_core.sim.rig import TOPICS, drawn, rig
from robustseg_core.sim.style import style

pytestmark = pytest.mark.slow

VIEWS = 3
RECIPE = Recipe(
    8, 30.0, ("clear",), "tiny", (192, 256), views=VIEWS, rig="random", streets="varied"
)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "drive.mcap"
    simulate(path, RECIPE)
    return path


def messages(path, topic):
    with Bag(path) as bag:
        return [recorded.message() for recorded in bag.messages({topic})]


def payloads(path):
    with Bag(path) as bag:
        return [(r.topic, r.time_ns, hashlib.sha256(r.raw).hexdigest()) for r in bag.messages()]


def test_a_view_is_one_complete_labelled_sample(drive, tmp_path):
    account = extract_one(drive, out=tmp_path, extraction=Extraction(size=(96, 128)))
    assert account["complete"] == account["labelled"] == VIEWS
    with tarfile.open(tmp_path / "drive" / "000000.tar") as shard:
        names = [name for name in shard.getnames() if name.endswith(".json")]
        told = [json.load(shard.extractfile(name)) for name in names]
    whole = [row for row in told if len(row["held_ms"]) == 4]
    assert len(whole) == VIEWS
    for row in whole:
        assert 0 <= row["held_ms"]["depth"] <= 40 and 0 <= row["held_ms"]["event"] <= 20
        assert 105 <= row["held_ms"]["lidar"] <= 140


def test_views_are_of_different_places(drive):
    labels = [m.data for m in messages(drive, TOPICS["label"])]
    assert len(labels) == VIEWS
    apart = [(a != b).mean() for k, a in enumerate(labels) for b in labels[:k]]
    assert min(apart) > 0.1


def test_the_same_recipe_gives_the_same_bytes_whatever_was_made_before(drive, tmp_path):
    again = tmp_path / "again.mcap"
    simulate(again, RECIPE)
    assert payloads(again) == payloads(drive)


def test_the_account_tells_what_is_not_the_default_and_old_accounts_still_match(drive):
    told = json.loads(drive.with_suffix(".json").read_text())["recipe"]
    assert (told["views"], told["rig"], told["streets"]) == (VIEWS, "random", "varied")
    assert drive.exists() and simulate(drive, RECIPE)["recipe"] == told


@pytest.mark.parametrize("seed", range(6))
def test_moments_are_spread_over_the_drive(seed):
    times = moments(seed, 30.0, 5)
    assert all(6 * k < t < 6 * (k + 1) for k, t in enumerate(times))
    assert times == moments(seed, 30.0, 5) != moments(seed + 1, 30.0, 5)


def test_more_views_than_places_are_refused(tmp_path):
    with pytest.raises(RobustsegError, match=f"views is 9 .* one for each {APART_S:g} s, so .*=9 "):
        simulate(tmp_path / "x.mcap", Recipe(1, 4.0, ("clear",), "tiny", views=9))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RobustsegError, match="no streets called 'vareid'"):
        style("vareid", 1)
    with pytest.raises(RobustsegError, match="no rig called 'tall'"):
        rig("tiny", kind="tall")


@pytest.mark.parametrize("seed", range(20))
def test_a_drawn_rig_is_one_that_can_be_built(seed):
    base = rig("default")
    robot = drawn(base, seed)
    assert (robot.height, robot.width, robot.rgb_hz) == (base.height, base.width, base.rgb_hz)
    assert robot.lane_m < 0 and robot.depth_range_m[0] < 1 < 10 < robot.depth_range_m[1]
    for name, pose in robot.poses.items():
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert pose[2, 3] > 0.3, name
        assert np.linalg.norm(pose[:3, 3] - robot.poses["rgb"][:3, 3]) < 1.4
    assert drawn(base, seed).poses["lidar"].tolist() == robot.poses["lidar"].tolist()


@pytest.mark.parametrize("seed", [21, 22])
def test_calibration_is_that_of_the_drawn_rig(seed, tmp_path):
    """LiDAR points land on the depth of their pixel, by what the bag says of both."""
    path = tmp_path / "drive.mcap"
    size = (240, 320)
    simulate(path, Recipe(seed, 4.0, ("cloud",), "tiny", size, views=1, rig="random"))
    robot = drawn(rig("tiny", size), seed)
    view = View((192, 256))
    (info,) = messages(path, TOPICS["depth_info"])[-1:]
    assert info.k[0] == pytest.approx(robot.focal_px("depth"))
    view.set_camera_info("rgb", info)
    view.add_transforms(messages(path, "/tf_static")[0])
    scan = messages(path, TOPICS["lidar"])[-1]
    pose = view.view_from("lidar", scan.header.frame_id)
    apart = np.linalg.inv(robot.poses["depth"]) @ robot.poses["lidar"]
    if scan.header.frame_id and view.frame_id == info.header.frame_id:
        np.testing.assert_allclose(pose, apart, atol=1e-6)
    xyz = decode_points(scan).xyz
    u, v, z, _ = view.camera.project(xyz @ apart[:3, :3].T + apart[:3, 3])
    depth_m = decode_depth(messages(path, TOPICS["depth"])[-1])
    rows, cols = np.rint(v).astype(int), np.rint(u).astype(int)
    inside = (rows >= 0) & (rows < size[0]) & (cols >= 0) & (cols < size[1])
    measured = depth_m[rows[inside], cols[inside]]
    near = np.isfinite(measured) & (z[inside] < 12)
    assert near.sum() > 100
    # the sweep began a tenth of a second before the picture: what is ahead has come nearer
    assert np.median(np.abs(measured - z[inside])[near]) < 1.2
    assert np.median(z[inside][near] - measured[near]) > -0.1


def test_the_train_streets_come_in_every_mixture():
    split = config.load(Split, ROOT / "config" / "sim" / "street_train.yaml")
    recipes = split.recipes()
    assert len(recipes) >= 600 and {r.views for r in recipes} == {5}
    mixtures = {(r.conditions, r.rig, r.streets) for r in recipes}
    assert len(mixtures) == 6 * 2 * 2
    others = {f.stem: config.load(Split, f) for f in (ROOT / "config" / "sim").glob("*.yaml")}
    assert all(r.rig == "preset" for r in others["street_test"].recipes())
