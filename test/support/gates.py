"""A gate that is watched by a black box, driven in both ways, and what it decided."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robustseg_core import config
from robustseg_core.bag.sealed import Sealed
from robustseg_core.bag.typestore import typestore
from robustseg_core.blackbox.account import Decision, text
from robustseg_core.blackbox.files import BlackBox
from robustseg_core.config import BlackBoxConfig
from robustseg_core.engines.blank import blank
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from support.drives import ALL, OPTICAL, TOPICS, engine
from support.makers import camera_info, transform

Rows = Iterable[tuple[int, str, Any]]


def gate(*, placed: bool = True, **more: Any) -> Segmenter:
    """Fresh, with the network's place taken by nobody; `more` joins the robot."""
    tree = {"streams": {n: {"topic": TOPICS[n]} for n in ALL}, **more}
    spec = engine().spec
    made = Segmenter(config.parse(RobotConfig, tree), spec, blank(spec))
    if placed:
        place(made)
    return made


def place(made: Segmenter) -> None:
    """Say where the sensors are."""
    made.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    made.push_transforms(transform("camera", "lidar", quaternion=OPTICAL))


def sealed(message: Any) -> Sealed:
    """As a subscription of the node gives it."""
    raw = bytes(typestore().serialize_cdr(message, message.__msgtype__))
    return Sealed(raw, message.__msgtype__)


def decided(made: Segmenter, arrivals: Rows, *, offered: bool = False, now: int = 0) -> list[str]:
    """The accounts of all sets of a drive."""
    found = []

    def step(now_ns: int) -> None:
        label_map = made.step(now_ns)
        outcome = made.outcome if label_map is None else label_map
        if (decision := Decision.of(outcome)) is not None:
            found.append(text(decision.account()))

    for at, name, sent in arrivals:
        while (wake := made.wake_ns(now)) is not None and wake < at:
            now = wake
            step(now)
        now = at
        if offered:
            made.offer(name, sealed(sent), now)
        else:
            made.push(name, sent, now)
        step(now)
    return found


def boxed(made: Segmenter, folder: Path, **options: Any) -> BlackBox:
    """A black box of short windows."""
    return BlackBox(made, BlackBoxConfig(folder=str(folder), **{**SHORT, **options}))


SHORT = {"before_s": 0.6, "after_s": 0.4}
