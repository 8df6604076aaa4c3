"""The four-sensor recording through `robustseg run`, with the camera and the LiDAR killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from PIL import Image

from robustseg_core.bag import Bag
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import parse_kill
from robustseg_core.recording.run import run_bags
from robustseg_core.types import SECOND
from support.films import lasts_s, moments

pytestmark = pytest.mark.slow

START = 1_700_000_000 * SECOND
PLAIN = ["weights=untrained"]
KILLS = [parse_kill("rgb@0.8+0.6"), parse_kill("lidar@1.2")]


@pytest.fixture(scope="module")
def folder(realdata, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("collage")
    run_bags([realdata / "collage_four_sensors"], out=out, faults=KILLS, overrides=PLAIN)
    return out


@pytest.fixture(scope="module")
def result(folder) -> dict:
    return json.loads((folder / "result.json").read_text())


def pixels(file):
    with Image.open(file) as picture:
        assert picture.mode == "P"
        return np.asarray(picture)


def between(result, start_s, end_s):
    return [m for m in result["masks"] if start_s <= (m["stamp_ns"] - START) / SECOND < end_s]


@pytest.mark.parametrize("start_s, end_s", [(0.8, 1.4), (1.2, 2.0), (0.0, 2.0)])
def test_masks_keep_the_reference_rate_through_both_deaths(result, start_s, end_s):
    assert len(between(result, start_s, end_s)) >= 0.9 * 30 * (end_s - start_s)


def test_the_used_sensors_change_at_the_right_frames(result):
    assert all("rgb" in m["used"] for m in between(result, 0.05, 0.8))
    assert all("rgb" not in m["used"] for m in between(result, 0.85, 1.9))
    assert all("rgb" in m["used"] for m in between(result, 1.95, 2.0))
    assert all("lidar" in m["used"] for m in between(result, 0.3, 1.2))
    assert all("lidar" not in m["used"] for m in between(result, 1.3, 2.0))
    assert all({"depth", "event"} <= set(m["used"]) for m in between(result, 0.2, 2.0))


def test_every_absence_has_its_reason(result):
    for mask in result["masks"]:
        assert set(mask["used"]) | set(mask["reasons"]) == {"rgb", "depth", "event", "lidar"}
        doubted = {name for name in mask["used"] if mask["states"][name] != "LIVE"}
        assert set(mask["used"]) & set(mask["reasons"]) == doubted
    assert all(m["reasons"]["rgb"] == ["silent"] for m in between(result, 1.0, 1.4))
    assert all(m["reasons"]["rgb"][0] == "recovering" for m in between(result, 1.45, 1.9))
    assert between(result, 1.9, 2.0)[-1]["reasons"]["lidar"] == ["silent"]


def test_the_books_balance(result):
    assert result["rejected"] == {} and result["trained"] is False
    assert result["totals"]["messages"] == {"rgb": 42, "depth": 20, "event": 498, "lidar": 6}
    assert result["totals"]["masks"] == len(result["masks"])
    assert result["totals"]["clock_jumps"] == 0
    assert result["kills"] == ["rgb@0.8+0.6", "lidar@1.2"]
    assert result["faults"] == ["rgb:off@0.8+0.6", "lidar:off@1.2"]


def test_every_mask_is_a_picture_of_class_ids(folder, result):
    files = sorted((folder / "masks").iterdir())
    assert [int(f.stem.split("_")[1]) for f in files] == [m["stamp_ns"] for m in result["masks"]]
    ids = pixels(files[0])
    assert ids.shape == (480, 640) and ids.max() < 19


def test_the_mcap_holds_mask_overlay_and_status_of_every_frame(folder, result):
    file = next((folder / "mcap").glob("*.mcap"))
    with open(file, "rb") as stream:
        reader = make_reader(stream)
        summary = reader.get_summary()
        assert {s.name for s in summary.schemas.values()} >= {
            "sensor_msgs/msg/Image",
            "sensor_msgs/msg/CompressedImage",
            "diagnostic_msgs/msg/DiagnosticArray",
            "vision_msgs/msg/LabelInfo",
        }
        assert {s.encoding for s in summary.schemas.values()} == {"ros2msg"}
        stamps = [m.log_time for *_, m in reader.iter_messages("/robustseg/label_mask")]
    assert stamps == [m["stamp_ns"] for m in result["masks"]]
    with Bag(folder / "mcap") as bag:
        masks = list(bag.messages({"/robustseg/label_mask"}))
        first = masks[0].message()
        assert first.encoding == "mono8"
        png = pixels(min((folder / "masks").iterdir()))
        assert np.array_equal(first.data.reshape(first.height, first.width), png)
        statuses = [r.message() for r in bag.messages({"/robustseg/status"})]
    names = [s.name for s in statuses[-1].status]
    assert names == [f"robustseg: {n}" for n in ("rgb", "depth", "event", "lidar", "mask")]


def test_the_film_lasts_as_long_as_the_recording(folder, result):
    film = folder / "overlay.webm"
    assert lasts_s(film) == pytest.approx(result["totals"]["duration_s"], abs=1 / 30)
    at_s = {round(t, 3) for t, _ in moments(film)}
    assert {round(m["at_s"], 3) for m in result["masks"]} <= at_s, "each mask at its own time"


def test_the_report_needs_nothing_from_outside(folder):
    page = (folder / "report.html").read_text()
    assert "http" not in page and "Untrained" in page and "rgb@0.8+0.6" in page


def test_a_replay_is_repeatable_to_the_bit(realdata, folder, result, tmp_path):
    run_bags([realdata / "collage_four_sensors"], out=tmp_path, faults=KILLS, overrides=PLAIN)
    again = json.loads((tmp_path / "result.json").read_text())
    timeless = [{k: v for k, v in m.items() if k != "latency_ms"} for m in result["masks"]]
    assert timeless == [{k: v for k, v in m.items() if k != "latency_ms"} for m in again["masks"]]
    for ours, theirs in zip(
        sorted((folder / "masks").iterdir()), sorted((tmp_path / "masks").iterdir()), strict=True
    ):
        assert ours.read_bytes() == theirs.read_bytes()


def test_the_bag_played_twice_gives_twice_the_masks(realdata, tmp_path):
    bag = realdata / "collage_four_sensors"
    once = run_bags([bag], out=tmp_path / "once", overrides=PLAIN, video=False)
    twice = run_bags([bag, bag], out=tmp_path / "twice", overrides=PLAIN, video=False)
    assert twice["totals"]["clock_jumps"] == 1 and twice["rejected"] == {}
    assert abs(len(twice["masks"]) - 2 * len(once["masks"])) <= 1


@pytest.mark.parametrize(
    "name, masks, last",
    [
        ("kitti_object_3frames", 3, ["rgb", "lidar"]),
        ("rgbd_60frames", 60, ["rgb", "depth"]),
        ("events_evt3_640x480", 60, ["event"]),
        ("rellis3d_frame104", 1, ["rgb"]),  # its one scan comes after its one image
    ],
)
def test_every_real_recording_gives_masks(realdata, tmp_path, name, masks, last):
    # one frame is enough to be believed: a recording of one frame gives one mask
    result = run_bags([realdata / name], out=tmp_path, overrides=["health.good_to_start=1"])
    assert abs(len(result["masks"]) - masks) <= 2
    assert result["masks"][-1]["used"] == last
    assert result["rejected"] == {}


def test_a_recording_too_short_to_be_believed_says_so(realdata, tmp_path):
    with pytest.raises(RobustsegError) as error:
        run_bags([realdata / "rellis3d_frame104"], out=tmp_path)
    said = "no mask was made; rgb was never used: starting: 1 good messages, needs 2"
    assert said in str(error.value)
    assert json.loads((tmp_path / "result.json").read_text())["masks"] == []
    assert (tmp_path / "report.html").exists()
