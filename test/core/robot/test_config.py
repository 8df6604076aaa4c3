"""What a robot may write into robot.yaml, and what it is told when it errs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml

from robustseg_core import config
from robustseg_core.config import SyncConfig
from robustseg_core.errors import RobustsegError
from robustseg_core.robot.config import RobotConfig, parse_robot

ROS_STYLE = """
robustseg:
  ros__parameters:
    device: cpu
    streams:
      rgb: {topic: /camera/image_raw, rate_hz: 30}
"""


def load(tmp_path: Path, text: str, *words: str) -> RobotConfig:
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    return config.load(RobotConfig, path, words)


def test_a_ros_parameter_file_and_a_plain_one_mean_the_same(tmp_path):
    plain = "device: cpu\nstreams: {rgb: {topic: /camera/image_raw, rate_hz: 30}}\n"
    assert load(tmp_path, ROS_STYLE) == load(tmp_path, plain)


@pytest.mark.parametrize(
    "text, said",
    [
        ("sync: {dedline_ms: 3}", "unknown key 'sync.dedline_ms'; did you mean 'deadline_ms'?"),
        ("devise: cpu", "unknown key 'devise'; did you mean 'device'?"),
        ("streams: {rgb: {topc: /a}}", "unknown key 'streams.rgb.topc'; did you mean 'topic'?"),
        ("streams: {rgbd: {topic: /a}}", "no Modality called 'rgbd'; did you mean 'rgb'?"),
        ("sync: {deadline_ms: -1}", "sync.deadline_ms is -1: input should be greater than 0"),
        ("health: {grace_s: soon}", "health.grace_s is 'soon': input should be a valid number"),
        ("device: tpu", "device is 'tpu'"),
        (
            "input_size: 500x320",
            "500x320 has a side that does not divide by 32; use 512x320",
        ),
        ("input_size: large", "size is 'large'; write WIDTHxHEIGHT, e.g. 640x400"),
        ("points: {source: lidr}", "no Modality called 'lidr'; did you mean 'lidar'?"),
        (
            "points: {source: rgb}",
            "robot.yaml:1: points.source: 'rgb' knows no distances; give auto, depth or lidar",
        ),
        ("view: {intrinsics: [1, 2]}", "intrinsics has 2 numbers; give fx, fy, cx, cy"),
        ("- a\n- b", "expected `key: value` lines"),
        ("a: [", "is not YAML"),
        ("a:\n\tb: 1", "cannot start any token at line 2, column 1"),
    ],
)
def test_an_error_names_the_key_the_value_and_the_way_out(tmp_path, text, said):
    with pytest.raises(RobustsegError) as error:
        load(tmp_path, text)
    assert said in str(error.value) and "\n" not in str(error.value)


PLACES = """\
# a comment, and a ROS node's name

robustseg:
  ros__parameters:
    device: cpu
    view:
      extrinsics: {rgb: [0, 0, 0, 0, 0, 0, 1]}
      intrinsics: [100, 100,
                   32, 24]
    streams:
      rgb: &camera
        topic: /a
        rate_hz: -3
      depth:
        <<: *camera
        rate_hz: 30
        limits: {
          blakc: 3,
        }
"""


@pytest.mark.parametrize(
    "words, line, said",
    [
        ([], 13, "streams.rgb.rate_hz is -3"),
        (["streams.rgb.rate_hz=3"], 18, "unknown key 'streams.depth.limits.blakc'"),
        (["streams.rgb.rate_hz=3", "streams.depth={topc: /b}"], 0, "unknown key 'streams.depth.t"),
        (["streams.rgb={topic: /b}", "streams.depth.rate_hz=-1"], 0, "streams.depth.rate_hz is -1"),
        (["streams={}", "view.width=9", "view.height=9"], 8, "view.intrinsics: "),
        (["streams={}", "view.intrinsics=[1]"], 6, "view: intrinsics has 1 numbers"),
        (["streams={}", "view.extrinsics.sonar=[0,0,0,0,0,0,1]"], 0, "no Modality called 'sonar'"),
    ],
)
def test_an_error_of_a_file_names_the_line_and_one_of_a_word_does_not(tmp_path, words, line, said):
    with pytest.raises(RobustsegError) as error:
        load(tmp_path, PLACES, *words)
    place = f"{tmp_path / 'robot.yaml'}:{line}: " if line else ""
    assert str(error.value).startswith(f"{place}{said}")


def test_a_file_below_the_working_folder_is_named_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RobustsegError, match=r"^robot\.yaml:1: device is 'tpu'"):
        load(tmp_path, "device: tpu")
    (tmp_path / "robot.yaml").write_text("autostart: true\ndevice: tpu")
    with pytest.raises(RobustsegError, match=r"^robot\.yaml:2: device is 'tpu'"):
        parse_robot(config.override(config.read_file(Path("robot.yaml")), []))


def test_a_configuration_is_written_like_any_mapping():
    tree = config.override(config.read_yaml("a: {b: 1}", source="here"), ["a.c=[2]"])
    assert config.read_yaml(yaml.safe_dump(tree), source="there") == {"a": {"b": 1, "c": [2]}}
    assert json.loads(json.dumps(tree)) == pickle.loads(pickle.dumps(tree)) == tree  # noqa: S301


def test_lines_are_remembered_of_files_that_would_become_endless(tmp_path):
    chain = ["a0: &a0 {x: 1}", *(f"a{k}: &a{k} {{x: *a{k - 1}}}" for k in range(1, 300))]
    tree = config.read_yaml("\n".join(chain), source="here")
    assert tree.place(("a299",)) == "here:300"
    assert max(map(len, tree.places)) < 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "device: cpu\nsync: {ring: 8}\ndevice: cuda",
            "x.yaml:3: the key 'device' .*in line 1; keep",
        ),
        (
            "sync:\n  ring: 8\n\n  ring: 9",
            "x.yaml:4: the key 'ring' is there twice, first in line 2",
        ),
        (
            "sync: {ring: 8, 'ring': 9}",
            "x.yaml:1: the key 'ring' .*both times in this line; keep one",
        ),
        ("/**:\n  ros__parameters:\n    a: 1\n    a: 1", "x.yaml:4: the key 'a' is there twice"),
        ("a: [{b: 1}, {b: 1,\n b: 2}]", "x.yaml:2: the key 'b' is there twice, first in line 1"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_with_file_and_line(text, said):
    with pytest.raises(RobustsegError, match=f"^{said}"):
        config.read_yaml(text, source="x.yaml")
    with pytest.raises(ValueError, match="is there twice"):
        config.parse_yaml(text)


def test_merged_keys_may_be_replaced():
    text = "usual: &u {a: 1, b: 2}\nown: {<<: *u, b: 3}"
    assert config.read_yaml(text, source="x")["own"] == {"a": 1, "b": 3}


def test_a_word_with_a_key_twice_is_refused():
    with pytest.raises(RobustsegError, match=r"^--set sync: the key 'ring' is there twice"):
        config.override({}, ["sync={ring: 8, ring: 9}"])


def test_unknown_content_limits_are_errors_too(tmp_path):
    with pytest.raises(RobustsegError, match=r"unknown key 'streams.rgb.limits.blakc'"):
        load(tmp_path, "streams: {rgb: {topic: /a, limits: {blakc: 3}}}")


def test_words_win_over_the_file_and_reach_any_depth(tmp_path):
    robot = load(tmp_path, ROS_STYLE, "streams.rgb.rate_hz=15", "sync.deadline_ms=2e1")
    assert robot.streams["rgb"].rate_hz == 15 and robot.streams["rgb"].topic == "/camera/image_raw"
    assert robot.sync.deadline_ms == 20


def test_a_word_without_equals_is_an_error():
    with pytest.raises(RobustsegError, match="write key=value"):
        config.load(RobotConfig, None, ["device"])


@pytest.mark.parametrize("text, value", [("3e-4", 3e-4), ("1E3", 1e3), ("-2.5e+1", -25.0)])
def test_scientific_notation_is_a_number(text, value):
    tree = config.read_yaml(f"x: {text}", source="here")
    assert tree == {"x": value} and isinstance(tree["x"], float)


def test_words_that_only_look_like_numbers_stay_words():
    assert config.read_yaml("x: e3\ny: 12e\nz: v1e3", source="here") == {
        "x": "e3",
        "y": "12e",
        "z": "v1e3",
    }


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RobustsegError, match=r"cannot read .*gone.yaml"):
        config.load(RobotConfig, tmp_path / "gone.yaml")


def test_configuration_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        SyncConfig().deadline_ms = 3
