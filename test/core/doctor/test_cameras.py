"""The doctor before a robot with two cameras: each is spoken of, by its name."""

from __future__ import annotations

import pytest

from robustseg_core.bag import Bag
from robustseg_core.doctor import examine
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
