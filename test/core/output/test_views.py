"""What people look at: every topic and path that a view names is there, and holds what is shown."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
import yaml

from robustseg_core.bag import Bag
from robustseg_core.codecs.message_types import CAMERA_INFO, CLOUD, COMPRESSED_IMAGE, IMAGE
from robustseg_core.faults import parse_kill
from robustseg_core.models import checkpoint
from robustseg_core.output import messages, topics
from robustseg_core.recording.run import run_bags
from robustseg_core.types import State
from support import ROOT, drives
from support.panels import cells, paths_of, topic_of, values

FOLDER = ROOT / "config" / "view"
LAYOUT = json.loads((FOLDER / "foxglove.json").read_text())
PANELS: dict[str, dict[str, Any]] = LAYOUT["configById"]
LIVE = {output.topic.replace("~", "/robustseg"): output.type for output in topics.OUTPUTS}
DISPLAYS = {"rviz_default_plugins/Image": IMAGE, "rviz_default_plugins/PointCloud2": CLOUD}
"""What RViz's displays subscribe to."""


def of_kind(kind: str) -> list[dict[str, Any]]:
    """Its panels; there is one at least."""
    found = [panel for name, panel in PANELS.items() if name.startswith(f"{kind}!")]
    assert found
    return found


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, list[Any]]:
    """topic -> messages of what a run keeps of a drive whose LiDAR dies."""
    folder = tmp_path_factory.mktemp("view")
    weights = folder / "small.safetensors"
    checkpoint.save(weights, checkpoint.untrained(checkpoint.default_spec(size=drives.SIZE)))
    run_bags(
        [drives.write_drive(folder / "drive", 2.0)],
        out=folder / "out",
        overrides=[f"weights={weights}", "points.recorded=true"],
        faults=[parse_kill("lidar@1")],
        video=False,
    )
    found = defaultdict(list)
    with Bag([folder / "out" / "mcap"]) as bag:
        for one in bag.messages():
            found[one.topic].append(one.message())
    return found


def test_every_panel_lies_in_the_layout_once_and_together_they_fill_it():
    placed = list(cells(LAYOUT["layout"]))
    assert sorted(name for name, _ in placed) == sorted(PANELS)
    assert sum(width * height for _, (_, _, width, height) in placed) == pytest.approx(1)


@pytest.mark.slow
def test_all_that_the_layout_names_is_in_the_recording_of_a_run_and_live(said):
    named = {topic_of(path) for panel in PANELS.values() for path in paths_of(panel)}
    assert all(paths_of(panel) for panel in PANELS.values())
    assert named <= set(said) and named <= set(LIVE)
    assert set(said) - set(LIVE) == {"/tf_static"}, "and where the clouds are"


@pytest.mark.slow
def test_images_clouds_and_statuses_are_what_their_panels_show(said):
    for panel in of_kind("Image"):
        mode = panel["imageMode"]
        for message in said[mode["imageTopic"]]:
            assert message.__msgtype__ in (IMAGE, COMPRESSED_IMAGE)
        if calibration := mode.get("calibrationTopic"):
            for lens, seen in zip(said[calibration], said[mode["imageTopic"]], strict=True):
                assert lens.__msgtype__ == CAMERA_INFO
                assert (lens.height, lens.width) == (seen.height, seen.width)
    for panel in of_kind("3D"):
        for topic, how in panel["topics"].items():
            for message in said[topic]:
                assert message.__msgtype__ == CLOUD and message.width > 0
                assert {*"xyz", how["colorField"]} <= {field.name for field in message.fields}
                assert message.header.frame_id in ("camera", "lidar"), "in the drive's /tf_static"
    for panel in of_kind("DiagnosticSummary"):
        rows = [s for message in said[panel["topicToRender"]] for s in message.status]
        shown = {s.name for s in rows if panel["hardwareIdFilter"] in s.hardware_id}
        assert {f"robustseg: {name}" for name in (*drives.ALL, "mask")} == shown


@pytest.mark.slow
def test_every_state_path_reaches_one_word_in_each_message(said):
    paths = {path["label"]: path["value"] for path in of_kind("StateTransitions")[0]["paths"]}
    assert set(paths) == {*drives.ALL, "used"}
    for name, path in paths.items():
        found = [values(path, message) for message in said[topic_of(path)]]
        words = [word for (word,) in found]
        if name == "used":
            assert {word for row in words for word in row.split()} == set(drives.ALL)
        else:
            assert {State(word) for word in words} >= {State.LIVE}
    lidar = [values(paths["lidar"], message)[0] for message in said["/robustseg/status"]]
    assert lidar[-1] == "DEAD"


@pytest.mark.slow
def test_every_curve_is_the_number_that_its_label_names_in_each_message(said):
    for panel in of_kind("Plot"):
        for path in panel["paths"]:
            topic = topic_of(path["value"])
            names = path["value"].replace("position", "name")
            for message in said[topic]:
                assert values(names, message) == [path["label"]]
                (number,) = values(path["value"], message)
                assert isinstance(number, float)
                if "quality" in path["label"] or path["label"] == "confidence":
                    assert not number > panel["maxYValue"] and not number < panel["minYValue"]
            assert any(values(path["value"], m)[0] >= 0 for m in said[topic]), "never a number"


def test_rviz_shows_outputs_of_the_types_that_its_displays_take():
    rviz = yaml.safe_load((FOLDER / "robustseg.rviz").read_text())["Visualization Manager"]
    shown = {d["Topic"]["Value"]: DISPLAYS[d["Class"]] for d in rviz["Displays"] if "Topic" in d}
    assert shown.items() <= LIVE.items()
    assert {"/robustseg/overlay", "/robustseg/points"} <= set(shown)
    assert rviz["Global Options"]["Fixed Frame"] == "base_link", "REP 105"
    assert [panel["followTf"] for panel in of_kind("3D")] == ["base_link"]
    for display in rviz["Displays"]:
        assert "Topic" not in display or display["Topic"]["Reliability Policy"] == "Best Effort"


def test_every_health_status_falls_into_one_group_of_the_analyzers():
    analyzers = yaml.safe_load((FOLDER / "diagnostics.yaml").read_text())
    groups = analyzers["diagnostic_aggregator"]["ros__parameters"]["analyzers"]
    parts = ["sensors", "node", *drives.ALL, "rgb.front", "lidar.top"]
    for node in ("robustseg", "/front/robustseg"):
        for part in parts:
            name = messages.of_node(node, part, 0, "", {})["name"]
            inside = [g for g in groups.values() if any(word in name for word in g["contains"])]
            assert len(inside) == 1, name
