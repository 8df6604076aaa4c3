"""`robustseg view --live`: what a node publishes, read back from Rerun's file."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed (extra `viz`)")

from rclpy.node import Node
from rerun.chunk import RrdReader

from robustseg_core.models import checkpoint
from robustseg_core.output import messages
from robustseg_ros.publishers import Publishers
from support.label_maps import a_spec, of_a_scan

pytestmark = pytest.mark.ros


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of the classes that the label maps of the tests have."""
    spec = a_spec()
    told = checkpoint.default_spec(spec.modalities, size=(64, 64)).model_copy(
        update={"classes": spec.classes, "palette": spec.palette}
    )
    path = tmp_path / "student.safetensors"
    checkpoint.save(path, checkpoint.untrained(told))
    return path


def test_masks_clouds_and_states_of_a_node_are_in_the_file(world, tmp_path, weights):
    node = Node(messages.NODE, context=world.context)
    publishers = Publishers(node, a_spec())
    world.add(node)
    out = tmp_path / "view"
    words = ("--set", f"weights={weights}", "--out", str(out), "--json")
    program = world.start("-m", "robustseg_ros.view_node", *words)
    topics = [f"/{messages.NODE}/{name}" for name in ("points", "overlay", "status")]
    world.until(lambda: all(map(node.count_subscribers, topics)), "the viewer")
    for _ in range(30):
        publishers.publish(of_a_scan())
        world.until(lambda: True, "a turn")
    assert program.end() == 0, program.output
    assert "{" in program.output, program.output
    told = json.loads(program.output[program.output.index("{") : program.output.rindex("}") + 1])
    assert told["masks"] >= 1
    entities = {c.entity_path for c in RrdReader(out / "rerun.rrd").stream().to_chunks()}
    assert {"/image/label_mask", "/overlay", "/points", "/states/lidar"} <= entities
    publishers.close()
    node.destroy_node()


def test_where_no_node_speaks_it_says_so(world, tmp_path):
    words = ("--out", str(tmp_path / "view"), "--seconds", "1")
    program = world.start("-m", "robustseg_ros.view_node", *words)
    assert program.wait() == 2
    assert "no mask came on /robustseg/label_mask; start the node" in program.output
    assert not (tmp_path / "view").exists()
