"""`robustseg view`: the labelled clouds of a drive, of depth where the LiDAR is dead."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest

from robustseg_core.bag import Bag
from robustseg_core.cli.guard import guarded
from robustseg_core.cli.main import app
from robustseg_core.config import PointsConfig
from robustseg_core.engines.weights import engine_of
from robustseg_core.faults import parse_kill
from robustseg_core.geometry.view import moved
from robustseg_core.output import viewer
from robustseg_core.output.cloud import labelled
from robustseg_core.recording.clouds import clouds
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.recording.run import run_bags
from robustseg_core.segmenter import Segmenter
from support import drives

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return drives.write_drive(tmp_path_factory.mktemp("bag") / "drive", 2.0)


def shots(drive, weights, **options):
    with clouds([drive], overrides=[f"weights={weights}"], **options) as (spec, found):
        return spec, list(found)


def test_they_are_the_points_of_the_masks_in_the_cameras_frame(drive, weights):
    """Against the node's own way: whole masks, one after the other."""
    _, found = shots(drive, weights)
    with Bag([drive]) as bag:
        robot = robot_for(bag, None, [f"weights={weights}"])
        masks = list(replay(bag, Segmenter(robot, *engine_of(robot))))
    expected = [(mask, points) for mask in masks if (points := labelled(mask, PointsConfig()))]
    assert len(found) == len(expected) > 20
    for shot, (mask, points) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(shot.xyz, moved(points.xyz, points.camera_from_points))
        np.testing.assert_array_equal(shot.ids, points.ids)
        assert shot.used == mask.used
    assert {shot.source for shot in found[5:]} == {"lidar"}
    assert all((shot.xyz[:, 2] > 0).all() for shot in found), "before the camera"


def test_depth_takes_the_dead_lidars_place_and_not_more_are_made_than_wanted(drive, weights):
    _, found = shots(drive, weights, faults=[parse_kill("lidar@0.8")], every_s=0.2)
    assert {"lidar", "depth"} == {shot.source for shot in found}
    assert found[-1].source == "depth" and "lidar" not in found[-1].used
    assert "points of depth" in found[-1].caption
    times = np.array([shot.at_s for shot in found])
    assert (np.diff(times) >= 0.2 - 1e-9).all() and 7 <= len(found) <= 10


@pytest.fixture
def command(capsys):
    def run(*words) -> tuple[int, str, str]:
        code = guarded(lambda: app([str(word) for word in words], prog_name="robustseg"))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_without_a_display_there_are_pictures_and_no_open3d(
    drive, weights, tmp_path, command, monkeypatch
):
    monkeypatch.setitem(sys.modules, "open3d", None)
    monkeypatch.setattr(viewer, "has_display", lambda: False)
    monkeypatch.chdir(tmp_path)
    code, said, err = command("view", drive, "--weights", weights, "--every", 0.5, "--json")
    assert code == 0, err
    assert "no display: pictures go to out/view" in err
    told = json.loads(said)
    assert told["out"] == "out/view" and 3 <= len(told["clouds"]) <= 5
    for row in told["clouds"]:
        picture = cv2.imread(str(tmp_path / "out" / "view" / row["picture"]))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3 and row["points"] > 100


def test_a_drive_without_distances_is_told(tmp_path, weights, command):
    blind = drives.write_drive(tmp_path / "blind", 0.5, names=("rgb",))
    code, said, err = command("view", blind, "--weights", weights, "--out", tmp_path / "out")
    assert code == 2 and said == ""
    assert "no mask has points" in err and "robustseg doctor" in err
    assert not (tmp_path / "out").exists()


def test_the_report_of_a_run_shows_one_and_needs_no_open3d(drive, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    run_bags([drive], out=tmp_path / "out", overrides=[f"weights={weights}"], video=False)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Labelled cloud</h2>" in page
    assert "points of lidar, mask of rgb, depth, event, lidar" in page
    blind = drives.write_drive(tmp_path / "blind", 0.5, names=("rgb",))
    run_bags([blind], out=tmp_path / "other", overrides=[f"weights={weights}"], video=False)
    assert "Labelled cloud" not in (tmp_path / "other" / "report.html").read_text()
