"""What Rerun's viewer is given, read back: the same masks, states and words as everywhere else."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustseg_core.cli.guard import guarded
from robustseg_core.cli.main import app
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import parse_kill
from robustseg_core.output import rerun_file
from robustseg_core.output.topics import Mask, of_a_mask
from robustseg_core.recording.run import run_bags
from robustseg_core.types import MS, SECOND, Fault, Finding, State
from support import drives
from support.label_maps import STAMP, a_map, a_spec, of_a_scan


@pytest.fixture
def rrd():
    """rerun's reader; where it is not installed, the test is skipped."""
    reason = "rerun-sdk is not installed (extra `viz`)"
    return pytest.importorskip("rerun.chunk", reason=reason)


def read(rrd: Any, path) -> dict[str, dict[str, list[tuple[float, Any]]]]:
    """Entity -> component -> (seconds, value) of each row; what is static is at -1 s."""
    found: dict[str, dict[str, list[tuple[float, Any]]]] = defaultdict(lambda: defaultdict(list))
    for chunk in rrd.RrdReader(path).stream().to_chunks():
        table = chunk.to_record_batch().to_pydict()
        if not chunk.is_static:
            assert set(chunk.timeline_names) == {rerun_file.RECORDING, rerun_file.STAMP}
        times = table.get(rerun_file.RECORDING) or [None] * chunk.num_rows
        for name, values in table.items():
            if ":" in name:
                for time, value in zip(times, values, strict=True):
                    at_s = -1.0 if time is None else time.total_seconds()
                    found[chunk.entity_path][name].append((at_s, value))
    return {
        entity: {name: sorted(rows, key=lambda row: row[0]) for name, rows in columns.items()}
        for entity, columns in found.items()
    }


def test_every_output_of_a_mask_has_its_form():
    assert set(rerun_file.SHOWN) == set(of_a_mask())


def test_without_rerun_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RobustsegError, match=r"rerun is not installed; pip install 'robustseg\[v"):
        rerun_file.RerunFile(tmp_path / "a.rrd", a_spec(), title="")
    (tmp_path / "drive.mcap").touch()
    words = ["run", str(tmp_path / "drive.mcap"), "--rerun", "-o", str(tmp_path / "out")]
    assert guarded(lambda: app(words, prog_name="robustseg")) == 2
    assert "pip install 'robustseg[viz]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_states_and_findings_are_told_when_they_change(rrd, tmp_path):
    silent = Finding(Fault.SILENT, fatal=True, text="1 s without a message")
    late = Finding(Fault.LATE, fatal=False, text="80 ms")
    said = [
        (State.LIVE, ()),
        (State.LIVE, (late,)),
        (State.DEAD, (silent, late)),
        (State.DEAD, (silent,)),
        (State.LIVE, ()),
    ]
    path = tmp_path / "a.rrd"
    with rerun_file.RerunFile(path, a_spec(), title="states") as file:
        for number, (state, findings) in enumerate(said):
            mask = a_map(
                stamp_ns=STAMP + number * SECOND,
                states={"rgb": state, "lidar": State.LIVE},
                reasons={"rgb": findings} if findings else {},
            )
            file.add(Mask(mask, a_spec()), number * SECOND)
    found = read(rrd, path)
    states = found["/states/rgb"]["StateChange:state"]
    assert states == [(0.0, ["LIVE"]), (2.0, ["DEAD"]), (4.0, ["LIVE"])]
    assert found["/states/lidar"]["StateChange:state"] == [(0.0, ["LIVE"])]
    assert found["/states/rgb"]["StateConfiguration:values"][0][1] == [s.value for s in State]
    texts = found["/log/rgb"]["TextLog:text"]
    levels = found["/log/rgb"]["TextLog:level"]
    told = {(at_s, *level, *text) for (at_s, level), (_, text) in zip(levels, texts, strict=True)}
    assert told == {
        (1.0, "WARN", "rgb late: 80 ms"),
        (2.0, "ERROR", "rgb is DEAD, was LIVE"),
        (2.0, "ERROR", "rgb silent: 1 s without a message"),
        (3.0, "INFO", "rgb late: over"),
        (4.0, "WARN", "rgb is LIVE, was DEAD"),
        (4.0, "INFO", "rgb silent: over"),
    }


def test_points_are_in_the_cameras_frame_and_of_several_cameras_each_has_its_own(rrd, tmp_path):
    path = tmp_path / "a.rrd"
    one = of_a_scan()
    placed = one.scene.placed["lidar"]
    away = np.eye(4)
    away[:3, 3] = 0.0, 0.0, 1.0
    moved = replace(one.scene, placed={"lidar": replace(placed, camera_from_sensor=away)})
    with rerun_file.RerunFile(path, a_spec(), title="two", cameras=("front", "left")) as file:
        file.add(Mask(replace(one, camera="front"), a_spec()), 0)
        file.add(Mask(replace(one, camera="left", scene=moved), a_spec()), 0)
    found = read(rrd, path)
    for name, z in (("front", 5.0), ("left", 6.0)):
        ((_, points),) = found[f"/{name}/points"]["Points3D:positions"]
        assert points == [[0.0, 0.0, z], [1.0, 0.0, z]]
        assert len(found[f"/{name}/points"]["Points3D:class_ids"][0][1]) == 2
        ((_, view),) = found[f"/{name}/image"]["Pinhole:resolution"]
        assert view == [[4.0, 3.0]]
    assert "/points" not in found


def layout(rrd: Any, path) -> dict[str, list[Any]]:
    """Component of the blueprint -> its values, of all its entities."""
    reader = rrd.RrdReader(path)
    (store,) = reader.blueprints()
    found: dict[str, list[Any]] = defaultdict(list)
    for chunk in reader.stream(store=store).to_chunks():
        for name, values in chunk.to_record_batch().to_pydict().items():
            for value in values:
                found[name] += value or [] if isinstance(value, list) else [value]
    return found


@pytest.mark.parametrize("cameras", [(), ("front", "left")], ids=["one", "two"])
def test_the_layout_shows_masks_inputs_cloud_states_and_words(rrd, tmp_path, cameras):
    path = tmp_path / "a.rrd"
    with rerun_file.RerunFile(path, a_spec(), title="layout", cameras=cameras) as file:
        for camera in cameras or ("",):
            file.add(Mask(replace(of_a_scan(), camera=camera), a_spec()), 0)
    found, logged = layout(rrd, path), read(rrd, path)
    kinds = found["ViewBlueprint:class_identifier"]
    views = len(cameras) or 1
    assert kinds.count("2D") == views * (1 + len(a_spec().modalities))
    assert kinds.count("3D") == kinds.count("TextLog") == views
    origins = set(found["ViewBlueprint:space_origin"])
    for root in [f"/{camera}" for camera in cameras] or [""]:
        assert {f"{root}/overlay", f"{root}/states", f"{root}/log"} <= origins
        assert {f"{root}/inputs/{name}" for name in a_spec().modalities} <= origins
        assert f"{root}/overlay" in logged and f"{root}/states/lidar" in logged


def test_a_published_cloud_is_turned_as_the_camera_looks(rrd, tmp_path):
    path, ids = tmp_path / "a.rrd", np.array([1, 0], np.uint32)
    ahead = np.array([[5, 1, 2], [np.nan, 0, 0]], np.float32)
    for frame_id, place in (("lidar", [-1.0, -2.0, 5.0]), ("depth_optical_frame", [5.0, 1.0, 2.0])):
        with rerun_file.RerunFile(path, a_spec(), title="cloud") as file:
            file.add(Mask(a_map(), a_spec()), 0)
            file.add_points(ahead, ids, frame_id)
        cloud = read(rrd, path)["/points"]
        assert cloud["Points3D:positions"] == [(0.0, [place])]
        assert cloud["Points3D:class_ids"] == [(0.0, [1])]


@pytest.mark.slow
def test_a_run_says_the_same_there_as_in_its_masks(rrd, tmp_path):
    drive = drives.write_drive(tmp_path / "drive", 2.0)
    result = run_bags(
        [drive],
        out=tmp_path / "out",
        overrides=["weights=untrained"],
        faults=[parse_kill("lidar@0.8")],
        video=False,
        rerun=True,
    )
    found = read(rrd, tmp_path / "out" / rerun_file.NAME)
    rows = result["masks"]
    masks = found["/image/label_mask"]["SegmentationImage:buffer"]
    assert [at_s for at_s, _ in masks] == pytest.approx([row["at_s"] for row in rows])
    pngs = sorted((tmp_path / "out" / "masks").iterdir())
    for number in (0, len(rows) // 2, len(rows) - 1):
        ids = np.asarray(Image.open(pngs[number]))
        np.testing.assert_array_equal(np.ravel(masks[number][1]), ids.ravel())
    names = ("rgb", "depth", "depth/metres", "event", "lidar")
    assert {f"/inputs/{name}" for name in names} <= set(found)
    assert {"/overlay", "/points", "/image/confidence"} <= set(found)
    states = [value for _, (value,) in found["/states/lidar"]["StateChange:state"]]
    assert states[-2:] == ["LIVE", "DEAD"]
    changed = [at_s for at_s, _ in found["/states/lidar"]["StateChange:state"]]
    dead = next(r for r in rows if r["at_s"] > 0.8 and r["states"]["lidar"] == "DEAD")
    assert changed[-1] == pytest.approx(dead["at_s"], abs=MS / SECOND)
    assert any("silent" in text for _, (text,) in found["/log/lidar"]["TextLog:text"])
    labels = json.dumps(found["/"], default=str)
    assert "road" in labels
    metres = found["/inputs/depth/metres"]["DepthImage:meter"]
    assert {tuple(value) for _, value in metres} == {(1000.0,)}
