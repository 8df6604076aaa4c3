"""Several cameras: a box for each view, and each file decides as that view decided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustseg_core.blackbox.again import Again, read
from robustseg_core.blackbox.files import BlackBox, close_all
from robustseg_core.config import BlackBoxConfig
from robustseg_core.engines import NoMaskError
from robustseg_core.models import checkpoint
from robustseg_core.rig import Rig
from robustseg_core.types import SECOND, Bundle
from support import rigs
from support.gates import SHORT, boxed, sealed

pytestmark = pytest.mark.slow

CAMERAS = rigs.CAMERAS[:2]
STREAMS = rigs.streams_of(CAMERAS)
SPEC = checkpoint.default_spec(("rgb", "lidar"), size=(64, 96))
ENDS = {"lidar.rear": SECOND, "rgb.front": 13 * SECOND // 5}
"""Who falls silent, and when."""


def rig(engine: Callable[[Bundle], Any]) -> Rig:
    made = Rig(rigs.robot(STREAMS), SPEC, engine)
    for one in rigs.transforms():
        made.push_transforms(one)
    for name in CAMERAS:
        made.push_camera_info(f"rgb.{name}", rigs.info(name))
    return made


class Blank:
    """The network's place; `act` is told of each call."""

    def __init__(self, act: Callable[[int], None] = lambda call: None) -> None:
        self.act, self.calls = act, 0

    def __call__(self, bundle: Bundle) -> Any:
        self.calls += 1
        self.act(self.calls)
        blank = np.zeros(SPEC.size, np.uint8)
        return blank, blank


def drive(made: Rig, seconds: float, *, offered: bool) -> tuple[int, int]:
    """(masks, steps that raised) of a drive in which some fall silent."""
    masks, raised, now = 0, 0, 0

    def step(at: int) -> None:
        nonlocal masks, raised
        try:
            masks += len(made.step(at))
        except ZeroDivisionError:
            raised += 1

    for at, name, k in rigs.schedule(seconds, STREAMS, apart_ns=0):
        if at > ENDS.get(name, at):
            continue
        while (wake := made.wake_ns(now)) is not None and wake < at:
            now = wake
            step(now)
        now = at
        message = rigs.message(name, rigs.EPOCH + at, k)
        if offered:
            made.offer(name, sealed(message), now)
        else:
            made.push(name, message, now)
        step(now)
    return masks, raised


def whose(path: Path) -> str:
    return path.stem.split("Z_")[1]


@pytest.mark.parametrize("offered", [True, False])
def test_each_view_has_its_file_of_what_struck_it_and_is_decided_so_again(tmp_path, offered):
    made = rig(Blank())
    each = made.segmenters.items()
    boxes = {name: boxed(gate, tmp_path, before_s=1.2) for name, gate in each}
    masks, _ = drive(made, 3.6, offered=offered)
    close_all(boxes.values())
    files = {name: {whose(p): p for p in box.written} for name, box in boxes.items()}
    assert set(files["front"]) == {"front_lidar.rear_silent", "front_rgb.front_silent"}
    assert set(files["left"]) == {"left_lidar.rear_silent"}  # the other camera is not its own
    assert masks > 60 and not any(box.complaints() for box in boxes.values())
    for camera, own in files.items():
        for name, path in own.items():
            fault = read(path)
            assert fault.head["camera"] == camera
            again = Again(fault)
            assert again.gate.streams == (f"rgb.{camera}", "lidar.top", "lidar.rear")
            used = set[tuple[str, ...]]()
            again._watch = lambda at, outcome, then, gate, used=used: used.add(
                tuple(then.get("decision", {}).get("used", ()))
            )
            result = again.run()
            assert result.differences == [] and result.decisions >= 12, name
            told = "rear" if "rear" in name else "front"
            assert any(made and not any(told in stream for stream in made) for made in used)
            assert any(any(told in stream for stream in made) for made in used)


def test_a_network_that_raises_or_makes_no_mask_ends_the_step_of_every_view(tmp_path):
    def act(call: int) -> None:
        if call % 7 == 0:
            raise NoMaskError("the device is lost")
        if call % 11 == 0:
            raise ZeroDivisionError

    made = rig(Blank(act))
    boxes = [boxed(gate, tmp_path) for gate in made.segmenters.values()]
    _, raised = drive(made, 2.4, offered=True)
    close_all(boxes)
    assert raised > 2
    kinds = set[str]()
    for path in (path for box in boxes for path in box.written):
        again = Again(read(path))
        again._watch = lambda at, outcome, then, gate: kinds.add(
            then.get("decision", {}).get("kind", "")
        )
        assert again.run().differences == []
    assert {whose(p) for box in boxes for p in box.written} >= {
        "front_lidar.rear_silent",
        "left_lidar.rear_silent",
    }
    assert kinds >= {"mask", "refused", "failed"}


def test_an_exception_in_one_view_is_in_its_journal_and_in_no_other(tmp_path, monkeypatch):
    made = rig(Blank())
    left = made.segmenters["left"]
    finish, calls = left._finish, 0

    def broken(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            raise ZeroDivisionError("of ours")
        return finish(*args)

    monkeypatch.setattr(left, "_finish", broken)
    boxes = {name: boxed(gate, tmp_path) for name, gate in made.segmenters.items()}
    drive(made, 2.2, offered=True)
    close_all(boxes.values())
    failed = {}
    for camera, box in boxes.items():
        (path,) = box.written
        ends = [row.what.get("decision", {}) for row in read(path).rows if row.act.value == "end"]
        failed[camera] = sum(one.get("kind") == "failed" for one in ends)
    assert failed["front"] == 0 < failed["left"]


def test_the_boxes_of_a_robot_share_its_memory_and_a_folder_with_one_account(tmp_path):
    whole = BlackBoxConfig(folder=str(tmp_path), memory_mb=300, files=2, **SHORT)
    own = whole.one_of(3)
    assert own.memory_mb == 100 and own.model_copy(update={"memory_mb": 300.0}) == whole
    made = rig(Blank())
    boxes = [BlackBox(gate, own) for gate in made.segmenters.values()]
    drive(made, 3.6, offered=True)
    close_all(boxes)
    assert len(list(tmp_path.glob("*.mcap"))) == 2 == len(boxes[0].shelf.files())
    assert sum(box.lost for box in boxes) == 1
    assert any("holds 2 files" in told for box in boxes for told in box.complaints())
