"""A recording of several cameras through `run`: a folder for each, and the whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from robustseg_core.bag import Bag
from robustseg_core.cli.entry import app
from robustseg_core.errors import RobustsegError
from robustseg_core.faults.schedule import parse_kill
from robustseg_core.recording.robot import robot_for
from robustseg_core.recording.run import run_bags
from robustseg_core.types import SECOND
from support import rigs

pytestmark = pytest.mark.slow

CAMERAS = rigs.CAMERAS[:2]
STREAMS = rigs.streams_of(CAMERAS, ("top",))


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rig")
    rows = [r for r in rigs.schedule(2, STREAMS) if not (r[1] == "rgb.left" and r[0] > SECOND)]
    rigs.write_bag(folder / "bag", rows, STREAMS)
    (folder / "robot.yaml").write_text(
        "streams:\n" + "".join(f"  {n}: {{topic: {rigs.topic_of(n)}}}\n" for n in STREAMS)
    )
    return folder


def run(bag, out, *words, **how):
    given = ["weights=untrained", *words]
    return run_bags(
        [bag / "bag"], params=bag / "robot.yaml", overrides=given, out=out, video=False, **how
    )


@pytest.fixture(scope="module")
def result(bag):
    return run(bag, bag / "out")


def test_each_camera_has_its_results_and_the_whole_says_them_in_short(bag, result) -> None:
    out = bag / "out"
    assert result == json.loads((out / "result.json").read_text())
    assert {p.name for p in out.iterdir() if p.name[0] != "."} == {
        "cameras",
        "mcap",
        "report.html",
        "result.json",
    }
    assert result["modalities"] == STREAMS and list(result["cameras"]) == list(CAMERAS)
    assert result["totals"]["messages"] == {"rgb.front": 40, "rgb.left": 20, "lidar.top": 20}
    masks = 0
    for name in CAMERAS:
        own = json.loads((out / "cameras" / name / "result.json").read_text())
        rows = own["masks"]
        masks += len(rows)
        assert result["cameras"][name]["masks"] == len(rows) > 20
        assert own["modalities"] == [f"rgb.{name}", "lidar.top"]
        assert {p.name for p in (out / "cameras" / name).iterdir()} == {
            "masks",
            "poster.png",
            "report.html",
            "result.json",
        }
        assert len(list((out / "cameras" / name / "masks").iterdir())) == len(rows)
        for row in rows:
            assert set(row["used"]) <= {f"rgb.{name}", "lidar.top"}
    assert result["totals"]["masks"] == masks
    page = (out / "report.html").read_text()
    assert all(f'href="cameras/{name}/report.html"' in page for name in CAMERAS)


def test_the_masks_of_a_camera_are_those_of_a_run_with_it_alone(bag, result) -> None:
    alone = run(bag, bag / "alone", "cameras=[front]")
    assert "cameras" not in alone and alone["modalities"] == ["rgb.front", "lidar.top"]
    files = sorted((bag / "alone" / "masks").iterdir())
    also = sorted((bag / "out" / "cameras" / "front" / "masks").iterdir())
    assert [f.name for f in files] == [f.name for f in also] and len(files) > 30
    for one, other in zip(files, also, strict=True):
        ids, others = (np.asarray(Image.open(path)) for path in (one, other))
        assert np.mean(ids != others) < 1e-3


def test_one_mcap_has_a_topic_below_each_cameras_name(bag, result) -> None:
    with Bag([bag / "out" / "mcap"]) as made:
        counts = {topic.name: topic.count for topic in made.topics}
    assert counts["/tf_static"] == 1, "for all of them"
    assert counts["/robustseg/label_info"] == 1 and "/robustseg/label_mask" not in counts
    for name in CAMERAS:
        for output in ("label_mask", "overlay", "status", "camera_info", "sensor_states"):
            assert counts[f"/robustseg/{name}/{output}"] == result["cameras"][name]["masks"]


def test_a_dead_camera_is_told_with_its_name(bag, result) -> None:
    own = json.loads((bag / "out" / "cameras" / "left" / "result.json").read_text())
    assert own["masks"][-1]["used"] == ["lidar.top"]
    assert own["masks"][-1]["reasons"]["rgb.left"] == ["silent"]
    assert result["cameras"]["left"]["used"]["lidar.top"] > 5


def test_faults_are_done_to_a_stream_or_to_all_of_a_modality(bag) -> None:
    kills = [parse_kill("rgb.front@0.5"), parse_kill("lidar@1.5")]
    broken = run(bag, bag / "broken", faults=kills)
    counts = broken["totals"]["messages"]
    assert counts["rgb.front"] == 10 and counts["rgb.left"] == 20 and counts["lidar.top"] == 15
    with pytest.raises(RobustsegError, match="names no sensor of this robot"):
        run(bag, bag / "nobody", faults=[parse_kill("rgb.rear@1")])


def test_no_mask_at_all_is_an_error_that_leaves_the_results(bag) -> None:
    with pytest.raises(RobustsegError, match="no mask was made"):
        run(bag, bag / "none", *(f"streams.{n}.mode=off" for n in STREAMS))
    whole = json.loads((bag / "none" / "result.json").read_text())
    assert whole["totals"]["masks"] == 0
    assert whole["notices"] == ["no mask of camera front", "no mask of camera left"]


def test_who_takes_one_camera_gets_the_likeliest_of_a_guess_or_the_one_that_is_meant(bag) -> None:
    with Bag([bag / "bag"]) as recorded:
        assert robot_for(recorded, None, ()).topics["rgb"] == "/front/image"
        chosen = robot_for(recorded, None, ["cameras=[left]"])
        assert chosen.topics == {"rgb": "/left/image", "lidar": "/top/points"}
        told = robot_for(recorded, bag / "robot.yaml", ["cameras=[left]"])
        assert told.topics == {"rgb": "/left/image", "lidar": "/top/points"}
        with pytest.raises(RobustsegError, match="2 cameras"):
            robot_for(recorded, bag / "robot.yaml", ())


def test_each_camera_has_its_black_box_and_each_file_is_explained(bag, tmp_path) -> None:
    words = ("black_box.before_s=0.6", "black_box.after_s=0.3")
    made = run(bag, tmp_path / "out", *words, faults=[parse_kill("lidar.top@1.4")], black_box=True)
    names = {name: Path(name).stem.split("Z_")[1] for name in made["black_box"]}
    assert {(name.split("/")[1], told) for name, told in names.items()} == {
        ("front", "front_lidar.top_silent"),
        ("left", "left_rgb.left_silent"),
        ("left", "left_lidar.top_silent"),
    }
    for name in CAMERAS:
        own = json.loads((tmp_path / "out" / "cameras" / name / "result.json").read_text())
        told = [f"cameras/{name}/{path}" for path in own["black_box"]]
        assert told == [path for path in made["black_box"] if f"/{name}/" in path]
    for name in names:
        out = tmp_path / "explained"
        said = CliRunner().invoke(app, ["explain", str(tmp_path / "out" / name), "-o", str(out)])
        assert said.exit_code == 0, said.output
        camera = name.split("/")[1]
        page = (out / "report.html").read_text()
        assert f"What happened: camera {camera}: " in page and "equal, to the bit" in page
        assert page.count("data:image/png;base64") >= 1 + 3  # the timeline, and who shows something
        account = json.loads((out / "explain.json").read_text())
        assert account["decisions"] >= 5 and account["notices"] == []
