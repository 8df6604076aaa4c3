"""The baselines: an oracle that knows, one that believes everything, one that waits for all."""

from __future__ import annotations

from typing import Any

import pytest

from robustseg_core.engines.blank import blank
from robustseg_core.robustness.baselines import PATIENCE_NS, SLOP_NS, AllOrNothing, Oracle, Ungated
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import MS, SECOND, Bundle, Fault, Finding
from support import drives
from support.makers import camera_info, transform


def placed(player: Any) -> Any:
    player.intake.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    player.intake.push_transforms(transform("camera", "lidar", quaternion=drives.OPTICAL))
    return player


@pytest.mark.slow
def test_an_oracle_leaves_out_exactly_the_broken_sensor_for_exactly_that_time():
    spec = drives.engine().spec
    policy = Oracle({"rgb"}, (1.0, 2.0), start_ns=0)
    oracle = Segmenter(drives.robot(), spec, blank(spec), policy=policy)
    masks = list(drives.drive(placed(oracle), drives.rows(4.0)))
    during = [m for at, m in masks if SECOND <= at < 2 * SECOND]
    assert during and not any("rgb" in m.used for m in during)
    assert all(set(m.used) == set(drives.ALL) for at, m in masks if 0.5 * SECOND < at < SECOND)
    assert "rgb" in masks[-1][1].used


def test_ungated_makes_a_set_of_the_newest_of_each_whenever_an_image_is_due():
    arrivals = [row for row in drives.rows(2.0) if row[1] != "rgb" or row[0] < SECOND]
    due = [(drives.EPOCH + at, at) for at, name, _ in drives.rows(2.0) if name == "rgb"]
    made: list[tuple[int, Bundle]] = []
    ungated = Ungated(
        drives.robot(),
        drives.engine().spec,
        due=due,
        on_bundle=lambda stamp_ns, bundle: made.append((stamp_ns, bundle)),
    )
    assert not list(drives.drive(placed(ungated), arrivals)), "its masks are not steps'"
    late = max(at for at, _, _ in arrivals) - PATIENCE_NS
    assert [stamp_ns for stamp_ns, _ in made] == [stamp_ns for stamp_ns, at in due if at <= late]
    assert all(set(bundle.frames) == set(drives.ALL) for _, bundle in made[3:])
    ages = [stamp_ns - bundle.frames["rgb"].stamp_ns for stamp_ns, bundle in made]
    assert max(ages) > 0.8 * SECOND, "the dead camera's last image is still believed"


def test_ungated_says_what_does_not_decode_and_goes_on():
    told: list[Finding | None] = []

    class Ear(AllOrNothing):
        def pushed(self, modality: str, message: Any, now_ns: int, finding: Any) -> None:
            told.append(finding)

    ungated = Ungated(
        drives.robot(),
        drives.engine().spec,
        due=[],
        on_bundle=lambda stamp_ns, bundle: None,
        observer=Ear(drives.ALL),
    )
    finding = ungated.push("rgb", object(), 0)
    assert finding is not None and finding.fault is Fault.FORMAT and told == [finding]
    assert ungated.push("rgb", drives.message("rgb", 0), 1) is None and told[1:] == [None]


def test_all_or_nothing_has_a_set_only_where_every_stream_has_a_message_near():
    waits = AllOrNothing(("rgb", "depth"))
    for k in (0, 1, 2):
        waits.pushed("rgb", drives.message("rgb", k), 0, None)
    stamp_ns = drives.EPOCH
    assert not waits.has_set(stamp_ns), "no depth at all"
    waits.pushed("depth", drives.message("depth", 0), 0, Finding(Fault.FORMAT, fatal=True))
    assert not waits.has_set(stamp_ns), "it did not decode"
    waits.pushed("depth", drives.message("depth", 0), 0, None)
    assert waits.has_set(stamp_ns) and waits.has_set(stamp_ns + SLOP_NS)
    assert not waits.has_set(stamp_ns + SLOP_NS + MS)
