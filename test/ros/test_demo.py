"""What the demo, which knows only what the node publishes, makes of a pause without masks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.codecs.tf_message import TF_MESSAGE
from robustseg_core.output import messages, topics
from robustseg_core.output.reasons import PauseLog
from robustseg_core.output.transforms import TransformLog
from robustseg_core.types import SECOND, Fault, Finding, Health, Reasons, State
from robustseg_ros.assembly import assemble
from robustseg_ros.demo import REMADE, Listener, _notices, _why
from robustseg_ros.optional import publisher
from robustseg_ros.publishers import Publishers
from support.label_maps import a_spec, of_a_scan
from support.live_sensors import LATCHED
from support.makers import transform

pytestmark = pytest.mark.ros


def silent(quiet_ms: float) -> tuple[Finding, ...]:
    return (Finding(Fault.SILENT, fatal=True, value=quiet_ms, limit=150.0, unit="ms"),)


def test_a_pause_is_told_by_diagnostics_else_by_the_mask_after_it() -> None:
    pauses = PauseLog()
    pauses.add(2, {"rgb": Health(State.DEAD, silent(900))})
    masks: list[tuple[Any, Any]] = [
        (SimpleNamespace(reasons={"rgb": silent(ms)} if ms else {}), None) for ms in (0, 600, 0)
    ]
    recorder: Any = SimpleNamespace(rows=[{"at_s": t} for t in (0.1, 1.0, 3.0)])
    why: dict[float, Reasons] = _why(SimpleNamespace(pauses=pauses), recorder, masks)  # type: ignore[arg-type]
    assert why == {0.0: {}, 0.1: {"rgb": silent(600)}, 1.0: {"rgb": silent(900)}}


@pytest.mark.parametrize(
    ("missing", "count"), [({}, 0), ({"label_mask": 1}, 1), ({"overlay": 4, "confidence": 2}, 3)]
)
def test_who_was_overloaded_is_told_what_takes_its_time(missing, count) -> None:
    listener: Any = SimpleNamespace(missing=lambda: missing)
    told = _notices(listener, Path("out/drive.mcap"))
    assert len(told) == count
    assert ("`robustseg run out/drive.mcap`" in " ".join(told)) == ("overlay" in missing)


def test_what_the_demo_hears_of_a_mask_is_kept_as_it_came(world) -> None:
    """Also what not every mask has, in whatever order it comes."""
    label_map, heard = of_a_scan(), list[dict[str, Any]]()
    node = Node(messages.NODE, context=world.context)
    publishers = Publishers(node, a_spec())
    listener = Listener(heard.append, large=True, context=world.context)
    world.add(listener)

    def all_came() -> bool:
        publishers.publish(label_map)
        return bool(heard) and {"camera_info", "points", "overlay"} <= set(heard[0])

    world.until(all_came, "a mask with its points")
    parts = heard[0]
    assert set(parts) == set(topics.of_a_mask()) - set(REMADE)
    assert len(parts["points"].fields) == 6 and parts["camera_info"].width == 4
    found, picture = assemble(parts, a_spec())
    assert found.used == ("lidar",) and np.array_equal(found.ids, label_map.ids)
    shed = {name: part for name, part in parts.items() if name not in ("confidence", "overlay")}
    same, drawn = assemble(shed, a_spec())  # of an overloaded node
    assert np.array_equal(same.ids, found.ids) and not same.confidence.any()
    assert drawn.shape == picture.shape
    assert not listener.missing()
    publishers.close()
    listener.destroy_node()
    node.destroy_node()


def test_the_demo_keeps_what_is_said_of_places_also_before_it_listens(world, tmp_path) -> None:
    log = TransformLog()
    placed = publisher(world.node, TF_MESSAGE, "/tf_static", LATCHED)
    placed.publish(transform("base", "lidar"))
    listener = Listener(lambda _parts: None, transforms=log, context=world.context)
    world.add(listener)
    moves = publisher(world.node, TF_MESSAGE, "/tf", 10)
    bag = BagWriter(tmp_path / "mcap")

    def both_came() -> bool:
        moves.publish(transform("base", "boom", stamp_ns=SECOND))
        log.write(bag, SECOND)
        return bag.has("/tf") and bag.has("/tf_static")

    with bag:
        world.until(both_came, "transforms")
    with Bag(tmp_path / "mcap") as read:
        said = {row.topic: row.message().transforms[0] for row in read.messages()}
    assert said["/tf_static"].child_frame_id == "lidar" and said["/tf"].child_frame_id == "boom"
    listener.destroy_node()
