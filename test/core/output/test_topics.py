"""An output topic is one entry of a table: recording, node and README follow from it."""

from __future__ import annotations

import importlib.util

import numpy as np

from robustseg_core.bag import Bag
from robustseg_core.output import topics
from robustseg_core.output.recorder import Recorder
from robustseg_core.output.timeline import Timeline
from robustseg_core.output.topics import IMAGE, Mask
from robustseg_core.types import SECOND
from support import ROOT
from support.label_maps import UNSURE, a_map, a_spec

KNOWN = {
    "/robustseg/label_info": "vision_msgs/msg/LabelInfo",
    "/robustseg/label_mask": "sensor_msgs/msg/Image",
    "/robustseg/confidence": "sensor_msgs/msg/Image",
    "/robustseg/overlay": "sensor_msgs/msg/CompressedImage",
    "/robustseg/status": "diagnostic_msgs/msg/DiagnosticArray",
}
"""What readers of recordings rely on; a new output is none of it yet."""


def recording(folder):
    """Topics of what is kept of two masks, and how many messages each has."""
    label_map, spec = a_map(), a_spec()
    picture = np.zeros((8, 8, 3), np.uint8)
    timeline = Timeline([(0, SECOND)])
    with Recorder(folder / "out", spec, start_ns=0, timeline=timeline) as recorder:
        for at_ns in (0, SECOND // 2):
            recorder.add(label_map, picture, at_ns)
    with Bag([folder / "out" / "mcap"]) as bag:
        return {topic.name: (topic.type, topic.count, topic.latched) for topic in bag.topics}


def test_the_readmes_table_is_that_of_the_code():
    rows = (ROOT / "README.md").read_text().splitlines()
    shown = [row for row in rows if row.startswith("| out |")]
    assert shown == topics.table(), "run: python docs/topics.py"


def test_the_command_writes_the_rows_of_the_table_and_nothing_else(monkeypatch):
    place = importlib.util.spec_from_file_location("topics_page", ROOT / "docs" / "topics.py")
    page = importlib.util.module_from_spec(place)
    place.loader.exec_module(page)
    before = page.README.read_text()
    assert page.rewritten(before) == before
    monkeypatch.setattr(topics, "OUTPUTS", (*topics.OUTPUTS, UNSURE))
    after = page.rewritten(before)
    assert [r for r in after.splitlines() if r.startswith("| out |")] == topics.table()
    (row,) = set(after.splitlines()) - set(before.splitlines())
    assert "~/unsure" in row and page.rewritten(after) == after
    monkeypatch.undo()
    assert page.rewritten(after) == before


def test_a_recording_keeps_what_is_said_of_masks_and_what_the_ids_mean_once(tmp_path):
    kept = recording(tmp_path)
    assert {name: kind for name, (kind, *_) in kept.items()}.items() >= KNOWN.items()
    said = [output for output in topics.OUTPUTS if output.make or output.names]
    assert {name: (count, latched) for name, (_, count, latched) in kept.items()} == {
        f"/robustseg/{output.name}": (1 if output.latched else 2, output.latched) for output in said
    }


def test_an_output_that_is_one_more_entry_is_recorded_and_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(topics, "OUTPUTS", (*topics.OUTPUTS, UNSURE))
    assert recording(tmp_path)["/robustseg/unsure"] == (IMAGE, 2, False)
    assert topics.table()[-1] == "| out | `~/unsure` | Image mono8 | where nobody knows |"
    assert "unsure" in topics.of_a_mask()


def test_a_picture_is_drawn_only_when_it_is_asked_for(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        topics.draw, "overlay", lambda *_: drawn.append(1) or np.zeros((4, 4, 3), "u1")
    )
    mask = Mask(a_map(), a_spec())
    outputs = topics.of_a_mask()
    outputs["status"].make(mask)
    assert not drawn
    for _ in range(2):
        outputs["overlay"].make(mask)
    assert len(drawn) == 1
