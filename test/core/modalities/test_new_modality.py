"""A sonar is one new file: guess, subsets, parameters, fault matrix and network follow from it."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustseg_core import config, modalities
from robustseg_core.bag import Bag
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import Injector, load, parse_fault
from robustseg_core.faults import available as faults_of
from robustseg_core.learn import corrupt
from robustseg_core.models import checkpoint
from robustseg_core.models.subsets import short, subsets
from robustseg_core.recording.guess import Candidate, modality_of
from robustseg_core.recording.survey import survey
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.parameters import parameters, template
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import CHANNELS, MS, SECOND
from support import drives, sonar
from support.makers import camera_info, transform
from support.planted import plant

pytestmark = pytest.mark.slow

CLOUD = "sensor_msgs/msg/PointCloud2"
FIVE = (*modalities.ranked(), "sonar")


@pytest.fixture(params=[3, 5], ids=["three channels", "five channels"])
def channels(request: pytest.FixtureRequest, tmp_path, monkeypatch) -> int:
    """The channels of a sonar that has just been added."""
    plant(monkeypatch, tmp_path, modalities, "sonar", sonar.file(request.param))
    return request.param


def echoes(seconds: float) -> list[tuple[int, str, object]]:
    times = range(0, round(seconds * SECOND), 50 * MS)
    return [(at, "sonar", sonar.message(drives.EPOCH + at, seed=at)) for at in times]


def test_its_topic_is_guessed_and_no_lidar_any_more(channels, tmp_path):
    assert modality_of(Candidate("/front_sonar/points", CLOUD, 9)) == "sonar"
    assert modality_of(Candidate("/velodyne_points", CLOUD, 9)) == "lidar"
    rows = [(at, "/front_sonar/points", sent) for at, _, sent in echoes(1.0)]
    drives.write_drive(tmp_path / "bag", 1.0, rows)
    with Bag([tmp_path / "bag"]) as bag:
        found = survey(bag)
    assert tuple(found.modalities) == FIVE
    assert found.robot().streams["sonar"].topic == "/front_sonar/points"
    assert found.robot().streams["sonar"].rate_hz == pytest.approx(20, rel=0.01)


def test_it_is_ranked_named_and_counted_in_subsets(channels):
    assert modalities.available() == sorted(FIVE)
    assert modalities.ranked() == FIVE and modalities.ranked(["sonar", "nir", "rgb"])[-1] == "nir"
    columns = [short(subset) for subset in subsets(modalities.ranked())]
    assert len(columns) == len(set(columns)) == 2 ** len(FIVE) - 1
    assert columns[-1].startswith("RDEL") and columns[-1].endswith("N")
    assert RobotConfig().sync.reference == FIVE


def test_it_has_parameters_and_a_place_in_robot_yaml(channels):
    names = {parameter.name for parameter in parameters()}
    assert {"streams.sonar.topic", "streams.sonar.rate_hz", "view.extrinsics.sonar"} <= names
    told = config.read_yaml(template(), source="template")
    assert config.parse(RobotConfig, told).sync.reference == FIVE


def test_it_can_be_broken_in_messages_and_in_training(channels):
    assert {"off", "stuck", "offset", "garbage"} <= set(faults_of("sonar"))
    assert {"misaligned", "fouling", "half_frozen", "sector"} <= set(faults_of("sonar"))
    assert "swapped_channels" not in faults_of("sonar")
    assert load("empty_cloud")().found_on("sonar") and load("jitter")().found_on("lidar")
    assert not load("jitter")().found_on("sonar"), "its checks look for no noise: survived"
    for fault in sorted({"misaligned", "fouling", "mirrored", "wrong"}):
        spec = parse_fault(f"sonar:{fault}{'(minutes=0)' if fault == 'fouling' else ''}")
        broken = Injector([spec], topics={"sonar": "/r"}, start_ns=0)
        (sent,) = broken.feed("/r", sonar.message(SECOND), 0)
        assert not broken.refused and bytes(sent.message.data) != bytes(sonar.message(SECOND).data)
    injector = Injector([parse_fault("sonar:off@1")], topics={"sonar": "/r"}, start_ns=0)
    assert injector.feed("/r", object(), 0) and not injector.feed("/r", object(), 2 * SECOND)
    known = set(corrupt.available("sonar"))
    assert known == {"sector", "pixel_drop", "misaligned", "salt_pepper"}
    image = np.random.default_rng(0).random((channels, 32, 48), np.float32)
    for fault in known:
        made = corrupt.damaged("sonar", fault, image, np.random.default_rng(1), strength=1)
        assert made.shape == image.shape and not np.array_equal(made, image)


def test_five_sensors_make_masks_with_an_untrained_network(channels):
    spec = checkpoint.default_spec(size=drives.SIZE)
    assert spec.modalities == FIVE
    assert spec.channels.get("sonar", CHANNELS) == channels
    assert spec.stem == ("per_modality" if spec.channels else "shared")
    engine = EagerEngine(checkpoint.untrained(spec), pick_device("cpu"))
    streams = {name: {"topic": f"/{name}"} for name in FIVE}
    made = Segmenter(config.parse(RobotConfig, {"streams": streams}), spec, engine)
    made.push_camera_info("rgb", camera_info(48, 64, fx=60.0))
    for name in drives.PLACED:
        made.push_transforms(transform("camera", name, quaternion=drives.OPTICAL))
    made.push_transforms(transform("camera", "sonar"))
    made.warm_up()
    arrivals = sorted([*drives.rows(1.0), *echoes(1.0)], key=lambda row: row[:2])
    maps = [label_map for _, label_map in drives.drive(made, arrivals)]
    assert {label_map.used for label_map in maps} >= {FIVE}
    frame = maps[-1].bundle.frames["sonar"]
    assert frame.array.shape == (channels, *drives.SIZE) and frame.array.any()


@pytest.mark.parametrize("count", [3, 5])
def test_the_fault_matrix_does_its_rows_to_it(tmp_path: Path, count: int):
    """In a process of its own, as the rows are made when the matrix is imported."""
    (tmp_path / "sonar.py").write_text(sonar.file(count))
    code = (
        "import sys; from robustseg_core import modalities\n"
        "modalities.__path__.append(sys.argv[1])\n"
        "from robustseg_core.robustness.case import SENSORS\n"
        "from robustseg_core.robustness.matrix import cases, pairs\n"
        f"assert SENSORS == {FIVE}, SENSORS\n"
        "for row in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 34, 47):\n"
        "    assert {case.target for case in cases([row])} == set(SENSORS), row\n"
        "joined = {frozenset((c.target, c.partner)) for c in pairs(cases())}\n"
        f"assert len(joined) == {math.comb(len(FIVE), 2)}, joined\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_ranks_and_letters_are_a_modalitys_own():
    kinds = [modalities.load(name) for name in modalities.available()]
    assert len({kind.rank for kind in kinds}) == len({kind.initial for kind in kinds}) == len(kinds)
    assert all(len(kind.initial) == 1 for kind in kinds)


def test_a_plug_in_that_lacks_its_library_hurts_nobody_else(tmp_path, monkeypatch):
    plant(monkeypatch, tmp_path, modalities, "sonar", "import a_library_that_is_not_here\n")
    assert modalities.ranked() == FIVE and tuple(modalities.usable()) == FIVE[:-1]
    with pytest.raises(ImportError):
        modalities.load("sonar")


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        (sonar.file().replace("    rank: ClassVar = 50\n", ""), "lacks rank;"),
        (sonar.file().replace("def picture", "def drawing"), r"lacks picture\(\);"),
        (
            "from robustseg_core.modalities._base import Modality\nclass Sonar(Modality): pass\n",
            r"lacks rank, initial, messages, check\(\), .*, picture\(\);",
        ),
        ("class Sonar(:\n", r"cannot be loaded \(SyntaxError: .*line 1"),
        ("FAULT = Fault.NOISE\n", r"cannot be loaded \(NameError: name 'Fault'"),
    ],
    ids=["rank", "picture", "everything", "syntax", "name"],
)
def test_a_half_written_file_is_named_with_what_it_lacks_and_hurts_nobody_else(
    tmp_path, monkeypatch, caplog, code: str, missing: str
):
    plant(monkeypatch, tmp_path, modalities, "sonar", code)
    with pytest.raises(RobustsegError, match=missing) as raised:
        modalities.load("sonar")
    assert re.search(r"sonar\.py|modalities\.sonar", str(raised.value))
    assert "remove the file" in str(raised.value)
    modalities._warn.cache_clear()
    assert modalities.ranked() == FIVE and tuple(modalities.usable()) == FIVE[:-1]
    assert [record.getMessage() for record in caplog.records] == [f"no sonar: {raised.value}"]
    assert modality_of(Candidate("/front_sonar/points", CLOUD, 9)) == "lidar"
    assert checkpoint.default_spec().modalities == FIVE[:-1]
    assert not any("sonar" in parameter.name for parameter in parameters())


def test_listing_and_ranking_load_no_network():
    code = (
        "import sys; from robustseg_core import modalities\n"
        "modalities.available(); assert 'robustseg_core.modalities.rgb' not in sys.modules\n"
        "assert modalities.ranked() and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
