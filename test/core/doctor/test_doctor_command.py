"""The doctor as a command, and what it says of a robot's clock, transport and computer."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from robustseg_core.bag import BagWriter
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.doctor import Status
from robustseg_core.doctor.observation import cut
from robustseg_core.doctor.report import Check
from robustseg_core.doctor.surroundings import (
    ClockWatch,
    check_clock,
    check_computer,
    check_transports,
)
from robustseg_core.models import checkpoint
from robustseg_core.robot.config import RobotConfig, parse_robot
from robustseg_core.robot.transports import ROOMY, VARIABLE
from robustseg_core.types import SECOND
from support import ROOT
from support.drives import EPOCH, message
from support.makers import camera_info, make

pytestmark = pytest.mark.slow


def test_the_clock_row_names_the_missing_clock():
    def check(sim: bool, publishers: int, said_s: list[float], now_s: float = 10.0) -> Check:
        """What /clock said once a second, from the first second on."""
        watch = ClockWatch(0)
        for second, each_s in enumerate(said_s, 1):
            watch.look(round(each_s * SECOND), second * SECOND)
        return check_clock(publishers, watch, round(now_s * SECOND), use_sim_time=sim)

    missing = check(True, 0, [])
    assert missing.status is Status.WARN and "nobody publishes /clock" in missing.found
    assert "ros2 bag play --clock" in missing.fix
    assert "stands still" in check(True, 1, [5, 5], 2.0).found
    assert "stands still" in check(True, 1, [], 2.0).found  # there, and silent
    assert "stands still" in check(True, 1, [5, 6], 3.0).found  # paused
    assert check(True, 1, [5, 6, 6, 7], 4.5).status is Status.OK  # and goes on
    assert check(True, 1, [5, 6], 2.5).status is Status.OK
    assert check(True, 2, [5, 6], 2.5).status is Status.WARN
    assert "went back by 5.5 s" in check(True, 1, [5, 6, 0.5, 1], 4.5).found
    assert check(True, 1, [5, 6, 0, 1, 2, 3, 4, 5, 6], 9.5).status is Status.OK
    assert check(False, 0, []).status is Status.OK
    assert "use_sim_time: true" in check(False, 1, [5, 6]).fix


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({}, "warn"),
        ({VARIABLE: ROOMY}, "ok"),
        ({VARIABLE: "LARGE_DATA"}, "warn"),
        ({VARIABLE: ROOMY, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "bad"),
    ],
)
def test_the_transport_row_knows_what_loses_images(environment, status):
    found = check_transports(environment, "rmw_fastrtps_cpp")
    assert found.status.value == status
    assert bool(found.fix) == (status != "ok")
    assert check_transports(environment, "rmw_zenoh_cpp").status is Status.NONE


def test_a_busy_computer_is_not_blamed_on_the_sensors():
    assert check_computer(0.01, 1.0, 4).status is Status.OK
    assert "2.0 s" in check_computer(2.0, 9.0, 2).found


def test_sentences_are_cut_before_their_way_out():
    assert cut("a is 1; b; use 2") == ("a is 1; b", "use 2")
    assert cut("a is 1") == ("a is 1", "")


def test_what_only_a_node_understands_is_left_to_it():
    tree = {"use_sim_time": True, "qos_overrides./a.subscription.depth": 3, "device": "cpu"}
    assert parse_robot(tree) == RobotConfig(device="cpu")


def test_the_command_prints_json_and_ends_with_one_where_something_is_bad(tmp_path, capsys):
    with BagWriter(tmp_path / "bag") as writer:
        for k in range(30):
            sent = message("rgb", k)
            writer.write("/rgb", sent.__msgtype__, sent, EPOCH + k * SECOND // 20)
    params = tmp_path / "robot.yaml"
    params.write_text(
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    weights: untrained\n"
        "    streams: {rgb: {topic: /rgb}, lidar: {topic: /points}}\n"
    )
    words = ["doctor", str(tmp_path / "bag"), "--params", str(params)]
    assert guarded(lambda: app([*words, "--json"])) == 1
    tree = json.loads(capsys.readouterr().out)
    assert tree["status"] == "bad"
    by_name = {row["stream"]: row for row in tree["rows"]}
    checks = {check["check"]: check for check in by_name["lidar"]["checks"]}
    assert checks["topic"]["status"] == "bad" and "/points" in checks["topic"]["found"]
    assert guarded(lambda: app([*words, "--set", "streams.lidar.topic=''"])) == 0
    text = capsys.readouterr().err
    assert "warn rgb calibration" in text and "fix: " in text


def test_the_command_refuses_neither_and_both(capsys):
    assert guarded(lambda: app(["doctor"])) == 2
    assert guarded(lambda: app(["doctor", "--live"])) == 2
    assert "--params" in capsys.readouterr().err


def test_real_recordings_have_no_bad_row(realdata, capsys):
    robot_yaml = ROOT / "config" / "robot.yaml"
    words = [
        "doctor",
        str(realdata / "collage_four_sensors"),
        "--params",
        str(robot_yaml),
        "--json",
    ]
    assert guarded(lambda: app([*words, "--set", "weights=untrained"])) == 0
    tree = json.loads(capsys.readouterr().out)
    rates = {
        row["stream"]: check["found"]
        for row in tree["rows"]
        for check in row["checks"]
        if check["check"] == "rate"
    }
    assert rates["rgb"] == "30.0 Hz" and rates["lidar"] == "5.0 Hz"


def drive(tmp_path, *, seconds: int = 2, others: int = 0) -> Path:
    """A camera with its calibration at 20 Hz, and topics that nobody asks for."""
    with BagWriter(tmp_path / "drive") as writer:
        for k in range(20 * seconds):
            time_ns = EPOCH + k * SECOND // 20
            sent, info = message("rgb", k), camera_info(48, 64, fx=60.0)
            info.header = sent.header
            writer.write("/rgb", sent.__msgtype__, sent, time_ns)
            writer.write("/camera_info", info.__msgtype__, info, time_ns)
        for k in range(others):
            text = make("std_msgs/msg/String", data="hello")
            writer.write(f"/other_{k:02d}", "std_msgs/msg/String", text, EPOCH)
    return tmp_path / "drive"


@pytest.fixture
def healthy(monkeypatch):
    """A network for a camera alone, so that nothing is to be complained about."""
    spec = checkpoint.default_spec(("rgb",), size=(64, 64)).model_copy(update={"trained": True})
    module = import_module("robustseg_core.doctor.examine")  # the package has a function called so
    monkeypatch.setattr(module, "network_of", lambda config: (spec, ""))


def told(path: Path, capsys, *words: str) -> tuple[int, str]:
    code = guarded(lambda: app(["doctor", str(path), "--set", "streams.rgb.topic=/rgb", *words]))
    return code, capsys.readouterr().err


def test_all_is_well_only_with_what_was_examined(tmp_path, capsys, healthy):
    code, text = told(drive(tmp_path), capsys)
    lines = text.splitlines()
    assert code == 0 and lines[-1].startswith("all is well in what was examined: rgb, for "), text
    unseen = [line for line in lines if line.startswith("not examined: ")]
    assert any("what the network makes" in line for line in unseen)
    assert any("QoS" in line and "--live" in line for line in unseen)
    assert not any("seconds" in line or "topics" in line for line in unseen), text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seconds", "1"], "what comes after the first 1 s; see --seconds, all in all"),
        ([], "topics that no stream is configured for: /other_00, /other_01, /other_02"),
        ([], "/other_07 and 4 more"),
    ],
)
def test_what_was_left_out_is_named(tmp_path, capsys, healthy, words, named):
    _, text = told(drive(tmp_path, others=12), capsys, *words)
    assert any(named in line for line in text.splitlines() if "not examined" in line), text


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("streams.lidar.topic=/points", "what lidar measures: no message of it came"),
        ("streams.lidar.topic=''", "lidar: no topic is configured for it"),
        ("streams.lidar={topic: /points, enabled: false}", "lidar: it is switched off"),
    ],
)
def test_sensors_that_were_not_heard_are_named(tmp_path, capsys, word, named):
    _, text = told(drive(tmp_path), capsys, "--set", word)
    assert any(named in line for line in text.splitlines() if "not examined" in line), text


def test_a_damaged_recording_is_not_called_well(tmp_path, capsys, healthy):
    path = next(drive(tmp_path).glob("*.mcap"))
    cut_off = tmp_path / "cut.mcap"
    cut_off.write_bytes(path.read_bytes()[:-2000])
    code, text = told(cut_off, capsys)
    assert code == 0 and "all is well" not in text and "notice:" in text
    assert "notice" in text.splitlines()[-1]


def test_the_json_says_what_was_not_examined(tmp_path, capsys):
    guarded(lambda: app(["doctor", str(drive(tmp_path)), "--json"]))
    tree = json.loads(capsys.readouterr().out)
    assert tree["heard"] == ["rgb"] and tree["notices"] == []
    assert any("network" in text for text in tree["unseen"])
