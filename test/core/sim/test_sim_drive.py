"""A simulated drive is a recording like any other, and its geometry closes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("open3d", reason="the simulator needs open3d (extra `sim`)")

from robustseg_core import config
from robustseg_core.bag import Bag
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.events.evt3 import Evt3Decoder
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.codecs.points import decode_points
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.view import View
from robustseg_core.jobs import Workers
from robustseg_core.recording.survey import survey
from robustseg_core.sim.drive import street_m
from robustseg_core.sim.layout import plan
from robustseg_core.sim.motion import Motion
from robustseg_core.sim.produce import Recipe, Split, simulate, simulate_splits
from robustseg_core.sim.rig import FRAMES, TOPICS, rig
from robustseg_core.sim.world import World

pytestmark = pytest.mark.slow

SECONDS = 1.5
FULL = Recipe(seed=7, seconds=0.15, conditions=("clear",), preset="default")
RECIPE = Recipe(seed=7, seconds=SECONDS, conditions=("clear",), preset="tiny")


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp("sim") / "drive.mcap"
    simulate(path, RECIPE)
    return path


def payloads(path):
    with Bag(path) as bag:
        return [(r.topic, r.time_ns, hashlib.sha256(r.raw).hexdigest()) for r in bag.messages()]


def messages(path, topic):
    with Bag(path) as bag:
        return [recorded.message() for recorded in bag.messages({topic})]


def test_one_seed_gives_one_drive_and_another_seed_another(drive, tmp_path):
    again, other = tmp_path / "again.mcap", tmp_path / "other.mcap"
    for path, seed in ((again, RECIPE.seed), (other, 8)):
        simulate(path, Recipe(seed=seed, seconds=0.3, conditions=("clear",), preset="tiny"))
    both = [payloads(path) for path in (again, drive)]
    early = [[r for r in rows if r[1] < rows[0][1] + 0.25e9] for rows in both]  # one ends at 0.3 s
    assert early[0] == early[1] and len(early[0]) > 20
    labels = [messages(path, TOPICS["label"])[0].data for path in (drive, other)]
    assert not np.array_equal(*labels)


def test_a_survey_finds_four_sensors_and_nothing_strange(drive):
    with Bag(drive) as bag:
        found = survey(bag)
        assert not bag.notices
    robot = found.robot()
    assert {name: s.topic for name, s in robot.streams.items()} == {
        name: TOPICS[name] for name in ("rgb", "depth", "event", "lidar")
    }
    rates = {t.topic: t.rate_hz for t in found.topics}
    assert rates[TOPICS["rgb"]] == pytest.approx(10) and rates[TOPICS["depth"]] == pytest.approx(5)
    assert not [t for t in found.topics if t.gaps or t.problem]


def test_the_event_packets_decode_to_the_events_that_were_simulated(drive):
    statistics = json.loads(drive.with_suffix(".json").read_text())["statistics"]
    sizes = rig("tiny")
    decoder = Evt3Decoder(sizes.event_width, sizes.event_height)
    count, on, last, seqs = 0, 0, -1, []
    for packet in messages(drive, TOPICS["event"]):
        events = decoder.decode(packet.events)
        assert not (events.unknown or events.outside or events.early)
        assert events.t.min() >= last
        last = events.t.max()
        count, on = count + len(events.t), on + int(events.p.sum())
        seqs.append(packet.seq)
    assert seqs == list(range(len(seqs)))
    assert round(count / SECONDS) == statistics["events_per_second"]
    assert round(on / count, 4) == statistics["on_share"]


class Geometry:
    """A moment of a full-size drive, and where its LiDAR points land by the bag's calibration."""

    def __init__(self, path):
        self.world = World(FULL.seed)
        self.depth_m = [decode_depth(m) for m in messages(path, TOPICS["depth"])]
        self.label = messages(path, TOPICS["label"])[0].data.reshape(self.depth_m[0].shape)
        self.scan = messages(path, TOPICS["lidar"])[0]
        self.points = decode_points(self.scan).xyz
        self.transforms = messages(path, "/tf_static")[0]
        self.infos = {n: messages(path, TOPICS[f"{n}_info"])[0] for n in ("rgb", "depth")}

    def camera(self, name):
        view = View((384, 640))
        view.set_camera_info("rgb", self.infos[name])
        view.add_transforms(self.transforms)
        return view

    def land(self, name):
        """(rows, cols, depth in m, which point) inside the image of a camera."""
        view = self.camera(name)
        pose = view.view_from("lidar", self.scan.header.frame_id)
        u, v, z, which = view.camera.project(self.points @ pose[:3, :3].T + pose[:3, 3])
        rows, cols = np.rint(v).astype(int), np.rint(u).astype(int)
        height, width = self.label.shape
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        return rows[inside], cols[inside], z[inside], which[inside]


@pytest.fixture(scope="module")
def geometry(tmp_path_factory):
    path = tmp_path_factory.mktemp("sim") / "full.mcap"
    simulate(path, FULL)
    return Geometry(path)


def test_lidar_and_depth_agree_to_five_centimetres(geometry):
    rows, cols, z, _ = geometry.land("depth")
    measured = geometry.depth_m[0][rows, cols]
    known = np.isfinite(measured)
    assert known.sum() > 3000
    assert np.median(np.abs(measured - z)[known]) < 0.05


def test_lidar_and_label_agree_away_from_edges(geometry):
    """What a ray from the LiDAR to each of its points meets is what the label image says."""
    rows, cols, _, which = geometry.land("rgb")
    pose = geometry.world.ego_pose(0.0) @ FRAMES["lidar"][1]
    directions = geometry.points[which] @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hits = geometry.world.cast(pose[:3, 3], directions, 0.0)
    square = np.ones((7, 7), np.uint8)
    edges = cv2.dilate(geometry.label, square) != cv2.erode(geometry.label, square)
    inner = ~edges[rows, cols]
    assert inner.sum() > 3000
    assert (hits.class_id[inner] == geometry.label[rows, cols][inner]).mean() >= 0.97


def test_one_depth_image_warped_by_the_motion_is_the_next_one(geometry):
    first, second = geometry.depth_m
    camera = geometry.camera("depth").camera
    rows, cols = np.nonzero(first < 10)  # both are noisy, with the square of the range
    rays = camera.rays(*first.shape).reshape(*first.shape, 3)[rows, cols]
    points = rays / rays[:, 2:] * first[rows, cols][:, None]
    poses = [geometry.world.ego_pose(t) @ FRAMES["depth"][1] for t in (0.0, 0.1)]
    moved = np.linalg.inv(poses[1]) @ poses[0]
    u, v, z, _ = camera.project(points @ moved[:3, :3].T + moved[:3, 3])
    rows, cols = np.rint(v).astype(int), np.rint(u).astype(int)
    inside = (rows >= 0) & (rows < first.shape[0]) & (cols >= 0) & (cols < first.shape[1])
    apart = np.abs(second[rows[inside], cols[inside]] - z[inside])
    assert np.abs(moved[2, 3]) > 0.3, "the robot has moved"
    assert np.nanmedian(apart) < 0.05


@pytest.mark.parametrize("seconds", [20, 60, 300])
def test_the_street_is_longer_than_the_drive(seconds):
    for seed in range(12):
        assert Motion(plan(seed, street_m(seconds))).duration_s > seconds


def test_a_drive_that_is_there_is_not_made_again(drive):
    before = drive.stat().st_mtime_ns
    assert simulate(drive, RECIPE)["recipe"]["seed"] == 7
    assert drive.stat().st_mtime_ns == before
    with pytest.raises(RobustsegError, match="is another drive's"):
        simulate(drive, Recipe(seed=9, seconds=1, conditions=("clear",), preset="tiny"))


def test_an_interrupted_drive_leaves_nothing(tmp_path):
    def stop(t_s):
        if t_s > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "cut.mcap", RECIPE, stop)
    assert list(tmp_path.iterdir()) == []


COMMAND = """
import resource, sys
from robustseg_core.cli.main import main
most = int(sys.argv.pop(1))  # bytes of a file: writing more fails for real, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
main()
"""


def command(folder, *, seconds=SECONDS, most=resource.RLIM_INFINITY):
    """`robustseg sim folder/cut.mcap`, started as a user would, where files can grow to `most`."""
    words = ["sim", str(folder / "cut.mcap"), "--preset", RECIPE.preset]
    words += ["--seconds", str(seconds), "--seed", str(RECIPE.seed)]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(most), *words], stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_ends_a_drive_in_order_and_leaves_nothing(tmp_path):
    running = command(tmp_path, seconds=30)
    while running.poll() is None and not list(tmp_path.glob(".cut.partial/**/*.mcap")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_no_bag(tmp_path):
    running = command(tmp_path, seconds=0.5, most=50_000)
    _, said = running.communicate()
    assert running.returncode == 2
    assert f"error: cannot write {tmp_path / 'cut.mcap'}: File too large; make room" in said
    assert "Traceback" not in said and "Exception" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_sheet_keeps_the_drive(drive, tmp_path):
    for made in (drive, drive.with_suffix(".json")):
        shutil.copy(made, (tmp_path / "cut").with_suffix(made.suffix))
    running = command(tmp_path, most=50_000)
    _, said = running.communicate()
    assert running.returncode == 2
    assert "cut.webm whole; is the disk full?" in said and "Traceback" not in said
    assert "cut.mcap is complete, make room to draw it" in said.replace("\n", " ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.json", "cut.mcap"]
    assert payloads(tmp_path / "cut.mcap") == payloads(drive)


@pytest.mark.parametrize(
    "recipe, said",
    [
        (Recipe(1, 0, ("clear",)), "seconds is 0"),
        (Recipe(1, 3600, ("clear",)), "at most 600, or several drives"),
        (Recipe(1, 1, ("snow",)), "snow"),
        (Recipe(1, 1, ("clear",), "huge"), "no preset called 'huge'"),
        (Recipe(1, 1, ("clear",), "tiny", (8, 8)), "size is 8x8"),
    ],
)
def test_an_impossible_drive_is_one_sentence(tmp_path, recipe, said):
    with pytest.raises(RobustsegError, match=said):
        simulate(tmp_path / "x.mcap", recipe)
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_splits_never_overlap():
    from conftest import ROOT

    files = sorted((ROOT / "config" / "sim").glob("*.yaml"))
    assert {f.stem for f in files} >= {"test", "train", "val"}
    seeds = [r.seed for f in files for r in config.load(Split, f).recipes()]
    assert len(seeds) == len(set(seeds))


def test_a_split_is_made_in_parallel_and_kept(tmp_path):
    split = tmp_path / "few.yaml"
    split.write_text("first_seed: 5\ndrives: 2\nseconds: 0.2\npreset: tiny\n")
    paths = simulate_splits([split], tmp_path / "out", workers=Workers(jobs=2))
    assert [p.name for p in paths] == ["few_00005.mcap", "few_00006.mcap"]
    stamps = [p.stat().st_mtime_ns for p in paths]
    assert all(len(messages(p, TOPICS["rgb"])) == 2 for p in paths)
    simulate_splits([split], tmp_path / "out", workers=Workers(jobs=2))
    assert [p.stat().st_mtime_ns for p in paths] == stamps
    card = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert [entry["name"] for entry in card["distribution"]] == [p.name for p in paths]


def test_stamps_are_those_of_the_measurement_and_logs_come_later(drive):
    with Bag(drive) as bag:
        for recorded in bag.messages({TOPICS["rgb"], TOPICS["lidar"], TOPICS["event"]}):
            assert recorded.time_ns > stamp_of(recorded.message())
