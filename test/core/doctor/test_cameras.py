"""The doctor before a robot with two cameras: each is spoken of, by its name."""

from __future__ import annotations

import pytest

from robustseg_core.bag import Bag
from robustseg_core.doctor import examine
from robustseg_core.doctor.examine import admit, one_by_one
from robustseg_core.doctor.probe import Probes
from robustseg_core.doctor.report import Status
from support import rigs

pytestmark = pytest.mark.slow


def test_each_camera_is_examined_and_what_differs_says_whose_it_is(tmp_path) -> None:
    streams = rigs.streams_of(rigs.CAMERAS[:2], ("top",))
    recorded = [name for name in streams if name != "rgb.left"]
    rigs.write_bag(tmp_path / "bag", rigs.schedule(1, streams), recorded)  # no CameraInfo of left
    with Bag([tmp_path / "bag"]) as bag:
        report = examine(bag, rigs.robot(streams, weights="untrained"))
    rows = {row.name: row for row in report.rows}
    assert {"rgb.front", "rgb.left", "lidar.top (front)", "lidar.top (left)"} <= set(rows)
    assert {"node (front)", "node (left)"} <= set(rows)
    assert rows["rgb.front"].status is not Status.BAD
    assert rows["lidar.top (front)"].check("used").status is Status.OK
    assert rows["lidar.top (left)"].status is Status.BAD
    assert report.heard == ("rgb.front", "lidar.top", "rgb.left")
    assert not any("no stream is configured" in text for text in report.unseen)


def test_probes_of_several_cameras_hear_the_same_messages_at_once():
    """The LiDAR is both cameras', an image one's; who is listened to is said once."""
    robot = rigs.robot(rigs.streams_of(rigs.CAMERAS[:2], ("top",)))
    probes = {name: admit(own)[0] for name, (own, _) in one_by_one(robot).items()}
    both = Probes(robot, probes)
    assert both.streams == ("rgb.front", "lidar.top", "rgb.left")
    assert both.push("lidar.top", rigs.message("lidar.top", rigs.EPOCH, 0), 0) is None
    both.offer("rgb.left", rigs.message("rgb.left", rigs.EPOCH, 0), 1)
    for probe in probes.values():
        probe.segmenter.step(2)
    logs = {name: probe.logs for name, probe in probes.items()}
    assert {n: {s: len(log.arrivals_ns) for s, log in own.items()} for n, own in logs.items()} == {
        "front": {"rgb.front": 0, "lidar.top": 1},
        "left": {"rgb.left": 1, "lidar.top": 1},
    }
