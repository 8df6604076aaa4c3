"""A recorded drive over DDS: player, node and listener are three processes."""

from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support import ROOT

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from robustseg_core.blackbox.again import Again, read
from robustseg_core.codecs.fields import stamp_of
from robustseg_core.output.messages import read_status
from robustseg_core.output.reasons import faults
from robustseg_core.types import SECOND

pytestmark = [pytest.mark.ros, pytest.mark.alone]
ROBOT = ROOT / "config" / "robot.yaml"


def _row(message: DiagnosticArray) -> dict[str, Any]:
    row = read_status(message)
    return row | {"reasons": faults(row["reasons"])}


class Ear:
    """What the node said so far: masks, confidences and status rows, by stamp."""

    def __init__(self, world: Any) -> None:
        self.rows: list[dict[str, Any]] = []
        self.masks: dict[int, Image] = {}
        self.confidences: dict[int, Image] = {}
        self.overlays: dict[int, Image] = {}
        node = world.node
        for name, kept in (
            ("label_mask", self.masks),
            ("confidence", self.confidences),
            ("overlay", self.overlays),
        ):
            node.create_subscription(
                Image,
                f"/robustseg/{name}",
                lambda m, kept=kept: kept.__setitem__(stamp_of(m), m),
                qos_profile_sensor_data,
            )
        node.create_subscription(
            DiagnosticArray, "/robustseg/status", lambda m: self.rows.append(_row(m)), 100
        )

        self._subscriptions = list(node.subscriptions)
        self._alive: list[DiagnosticArray] = []
        node.create_subscription(DiagnosticArray, "/diagnostics", self._alive.append, 10)

    def hears(self) -> bool:
        """Whether the node has been found, and has found us."""
        matched = all(each.get_publisher_count() for each in self._subscriptions)
        return matched and bool(self._alive)

    def used(self, *names: str, after: int = 0) -> dict[str, Any] | None:
        """The first row after number `after` whose mask was made of exactly these sensors."""
        return next((row for row in self.rows[after:] if set(row["used"]) == set(names)), None)


@pytest.fixture
def bag(realdata: Path) -> Path:
    return realdata / "collage_four_sensors"


def test_masks_keep_coming_while_the_camera_is_dead(world, bag):
    ear = Ear(world)
    node = world.segment("--params-file", str(ROBOT))
    world.until(ear.hears, "the node")
    player = world.play(bag, "--kill", "rgb@0.8+0.6")
    world.until(lambda: player.process.poll() is not None, "the end of the recording")
    assert player.wait() == 0, player.output
    assert "played 630 messages" in player.output  # 648 less 0.6 s of 30 Hz
    start_ns = 1_700_000_000 * SECOND
    dead_ns = start_ns + 8 * SECOND // 10

    def without_camera() -> dict[str, Any] | None:
        rows = (row for row in ear.rows if row["stamp_ns"] > dead_ns)
        return next((row for row in rows if set(row["used"]) == {"depth", "event", "lidar"}), None)

    first = world.until(without_camera, "a mask without the camera")
    times_s = {row["stamp_ns"]: (row["stamp_ns"] - start_ns) / SECOND for row in ear.rows}
    before = [row for row in ear.rows if times_s[row["stamp_ns"]] < 0.8]
    blind = [row for row in ear.rows if row is first or 1.0 < times_s[row["stamp_ns"]] < 1.35]
    assert any("rgb" in row["used"] for row in before)
    for row in blind:
        assert "rgb" not in row["used"]
        assert "silent" in row["reasons"]["rgb"]
    world.until(lambda: ear.masks.keys() & ear.overlays.keys() & ear.confidences.keys(), "pictures")
    stamp_ns = next(iter(ear.masks.keys() & ear.overlays.keys() & ear.confidences.keys()))
    mask, overlay = ear.masks[stamp_ns], ear.overlays[stamp_ns]
    assert (mask.encoding, mask.height, mask.width, mask.step) == ("mono8", 480, 640, 640)
    assert len(mask.data) == 480 * 640 == len(ear.confidences[stamp_ns].data)
    assert overlay.encoding == "rgb8" and overlay.width == 640
    assert len(overlay.data) == overlay.height * overlay.step
    assert mask.header.frame_id == "camera_color_optical_frame"
    assert stamp_ns in times_s
    assert node.end() == 0, node.output
    assert "Traceback" not in node.output + player.output


def test_a_camera_that_is_shot_and_reborn_is_used_again(world, bag, tmp_path):
    ear, box = Ear(world), tmp_path / "black_box"
    options = ("-p", f"black_box.folder:={box}", "-p", "black_box.before_s:=2.0")
    node = world.segment("--params-file", str(ROBOT), *options)
    world.until(ear.hears, "the node")
    others = ("depth", "event", "lidar")
    forever = ("--restamp", "--loop", "0")
    rest = world.play(bag, *forever, "--only", *others, "/tf_static")
    camera = ("--only", "rgb", "/camera/color/camera_info")
    victim = world.play(bag, *forever, *camera)
    world.until(lambda: ear.used("rgb", *others), "a mask made of all sensors")

    shot = len(ear.rows)
    assert victim.end(signal.SIGKILL) == -signal.SIGKILL

    def silent(row: dict[str, Any]) -> bool:
        return set(row["used"]) <= set(others) and "silent" in row["reasons"]["rgb"]

    world.until(lambda: any(map(silent, ear.rows[shot:])), "a mask without the camera")

    reborn = len(ear.rows)
    world.play(bag, *forever, *camera)
    world.until(
        lambda: any("rgb" in row["used"] for row in ear.rows[reborn:]), "the camera to be used"
    )
    back = [row for row in ear.rows[reborn:] if "recovering" in row["reasons"].get("rgb", "")]
    again = next(row for row in ear.rows[reborn:] if "rgb" in row["used"])
    assert back, "the camera was believed without probation"
    assert back[0]["stamp_ns"] < again["stamp_ns"]
    stamps = [row["stamp_ns"] for row in ear.rows[shot : ear.rows.index(again) + 1]]
    assert len(stamps) > 3, "masks that kept coming"  # how fast is the computer's affair
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert rest.end() == 0 and node.end(signal.SIGTERM) == 0, node.output
    assert "Traceback" not in node.output + rest.output
    files = sorted(box.glob("*.mcap"))
    kept = [read(path) for path in files]
    # The loop of the recording may have opened the file before: events whose clock goes back.
    told = [row for fault in kept for row in fault.head["faults"]]
    struck = [(row["modality"], row["finding"]["fault"]) for row in told]
    assert ("rgb", "silent") in struck and all(str(path) in node.output for path in files)
    for fault in kept:  # equal, whatever the node's threads did, and when
        assert Again(fault).run().differences == []
