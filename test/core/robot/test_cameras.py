"""Streams with names: which camera they belong to, and what is said of names that do not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustseg_core import config
from robustseg_core.errors import RobustsegError
from robustseg_core.robot.config import RobotConfig, nested, parse_robot
from robustseg_core.robot.parameters import named_streams, parameters, to_tree

TWO = "rgb.front: {topic: /f}, rgb.left: {topic: /l}"


def load(text: str, *words: str) -> RobotConfig:
    tree = config.read_yaml(text, source="robot.yaml")
    return parse_robot(config.override(tree, words))


def test_sensors_with_pixels_belong_to_the_camera_of_their_name_and_lidars_to_all() -> None:
    robot = load(
        f"streams: {{{TWO}, depth.left: {{topic: /d}}, event.rear: {{topic: /e}},"
        " lidar.top: {topic: /t}, lidar.left: {topic: /s}}"
    )
    assert robot.camera_names == ("front", "left", "rear")
    lidars = ("lidar.top", "lidar.left")
    assert {name: tuple(robot.of_camera(name).streams) for name in robot.camera_names} == {
        "front": ("rgb.front", *lidars),
        "left": ("rgb.left", "depth.left", *lidars),
        "rear": ("event.rear", *lidars),
    }
    assert robot.of_camera("left").sync.reference == ("rgb.left", "depth.left", *lidars)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("streams: {rgb: {topic: /a}, lidar: {topic: /b}}", ("",)),
        ("streams: {rgb: {topic: /a}, lidar.x: {topic: /b}, lidar.y: {topic: /c}}", ("",)),
        ("streams: {lidar: {topic: /b}}", ("",)),
        ("streams: {}", ("",)),
        ("streams: {rgb.front: {topic: /a}}", ("front",)),
        (f"{{streams: {{{TWO}}}, cameras: [left]}}", ("left",)),
    ],
)
def test_one_camera_needs_no_name(text, names) -> None:
    robot = load(text)
    assert robot.camera_names == names
    alone = robot.of_camera(*names)
    assert alone.camera_names == names and alone.of_camera(*names) == alone


def test_a_robot_of_one_camera_is_itself() -> None:
    robot = load("{streams: {rgb: {topic: /a}, lidar: {topic: /b}}, sync: {reference: [lidar]}}")
    assert robot.of_camera("") == robot


@pytest.mark.parametrize(
    "text",
    [
        "streams: {rgb.front: {topic: /f, rate_hz: 5}, rgb.left: {topic: /l}}",
        "streams: {rgb: {front: {topic: /f, rate_hz: 5}, left: {topic: /l}}}",
        "/**: {ros__parameters: {streams: {rgb: {front: {topic: /f}, left: {topic: /l}},"
        " rgb.front: {rate_hz: 5}}}}",
    ],
)
def test_a_name_may_be_written_as_ros_joins_it_or_below_the_modality(text) -> None:
    robot = load(text)
    assert robot == load("streams: {rgb.front: {topic: /f, rate_hz: 5}, rgb.left: {topic: /l}}")
    again = load(text, "streams.rgb.left.topic=/x", "views.left.width=8", "views.left.height=8")
    assert again.streams["rgb.left"].topic == "/x"
    assert again.of_camera("left").view.width == 8 and again.of_camera("front").view.width == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("streams: {rgbd.front: {topic: /f}}", "no Modality called 'rgbd'; did you mean 'rgb'?"),
        (
            "streams: {rgb.front-left: {topic: /f}}",
            "streams.rgb.front-left: 'front-left' is no name; give letters, digits and single "
            "underscores, a letter first, as in rgb.front_left",
        ),
        ("streams: {rgb.2: {topic: /f}}", "'2' is no name; give letters"),
        ("streams: {rgb.a__b: {topic: /f}}", "'a__b' is no name; give letters"),
        ("streams: {rgb.a.b: {topic: /f}}", "'a.b' is no name; give letters"),
        ("streams: {'rgb.': {topic: /f}}", "'' is no name; give letters"),
        (
            "streams: {rgb.mode: {topic: /f}}",
            "streams.rgb.mode: 'mode' is a key of every stream; call it something else, e.g. "
            "rgb.front",
        ),
        (
            "streams: {rgb: {topic: /a}, rgb.left: {topic: /l}}",
            "streams.rgb has no name, and streams.rgb.left has one; call it rgb.left if it "
            "belongs there, or by another name",
        ),
        (
            f"streams: {{{TWO}, depth: {{topic: /d}}}}",
            "streams.depth has no name, and streams.rgb.front has one; call it depth.front if it "
            "belongs there, or by another name",
        ),
        (
            "streams: {lidar: {topic: /a}, lidar.top: {topic: /l}}",
            "streams.lidar has no name, and streams.lidar.top has one",
        ),
        (
            "streams: {rgb.front: {topic: /f}, rgb.left: {topic: /f}}",
            "streams.rgb.front.topic is '/f', and so is that of streams.rgb.left; give each its "
            "own, or leave one out",
        ),
        (
            "streams: {rgb.front: {topic: auto}}",
            "streams.rgb.front.topic is auto, and nothing says which of several is meant; give "
            "its topic, as `robustseg inspect` lists them",
        ),
        (
            f"streams: {{{TWO}, rgb: {{rate_hz: 5}}}}",
            "streams.rgb is no stream, and the robot has rgb.front, rgb.left; set "
            "streams.rgb.front, and so on",
        ),
        (
            f"{{streams: {{{TWO}}}, cameras: [fornt]}}",
            "cameras: no camera is called 'fornt'; did you mean 'front'?",
        ),
        (
            "{streams: {rgb: {topic: /a}}, cameras: [front]}",
            "cameras: no camera is called 'front'; no camera of this robot has a name; write "
            "streams.rgb.front for one",
        ),
        (
            f"{{streams: {{{TWO}}}, views: {{rear: {{width: 3}}}}}}",
            "views.rear: no camera is called 'rear'; have ['front', 'left']",
        ),
        (
            f"{{streams: {{{TWO}}}, view: {{intrinsics: [9, 9, 4, 4]}}}}",
            "view.intrinsics is one camera's, and the robot has front, left; write "
            "views.front.intrinsics, and so on",
        ),
        (
            f"{{streams: {{{TWO}}}, views: {{left: {{intrinsics: [9, 9, 99, 4], width: 9,"
            " height: 9}}}",
            "views.left.intrinsics: ",
        ),
        (
            "{streams: {rgb: {topic: /a}, lidar.x: {topic: /x}, lidar.y: {topic: /y}},"
            " view: {extrinsics: {lidar: [0, 0, 0, 0, 0, 0, 1]}}}",
            "view.extrinsics.lidar: no stream is called so; give lidar.x or lidar.y",
        ),
        (
            "{streams: {rgb: {topic: /a}, lidar.x: {topic: /x}}, points: {source: lidar.x}}",
            "points.source: 'lidar.x' knows no distances; give auto, depth or lidar",
        ),
        ("streams: {rgb: {front: {topc: /a}}}", "unknown key 'streams.rgb.front'"),
        ("streams: {rgb.front: {topc: /a}}", "unknown key 'streams.rgb.front.topc'; did you mean"),
        ("streams: {rgb.front: {limits: {blakc: 3}}}", "'streams.rgb.front.limits.blakc'"),
    ],
)
def test_a_name_that_does_not_work_is_one_sentence(text, told) -> None:
    with pytest.raises(RobustsegError) as raised:
        load(text)
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_the_node_declares_what_its_file_names(tmp_path: Path) -> None:
    given = {
        "streams.rgb.front.topic": "/f",
        "streams.rgb.left.topic": "/l",
        "streams.rgb.limits.black_mean": 3.0,
        "streams.lidar.top.limits.near_m": 1.0,
        "streams.lidar.topic": "",
        "views.left.width": 9,
        "health.grace_s": 2.0,
    }
    named = named_streams(given)
    assert named == ("rgb.front", "rgb.left", "lidar.top")
    table = {one.name: one for one in parameters(streams=named)}
    assert "streams.rgb.front.limits.black_mean" in table and table["streams.rgb.left.mode"].live
    assert "views.left.width" in table and "views.top.width" not in table
    assert "view.extrinsics.lidar.top" in table
    tree = to_tree(table.values(), {"streams.rgb.front.topic": "/f", "views.front.width": 9})
    assert tree == {"streams": {"rgb.front": {"topic": "/f"}}, "views": {"front": {"width": 9}}}
    assert {one.name for one in parameters()} < set(table)


def test_a_file_for_ros_has_names_below_their_modality_and_is_the_same_robot() -> None:
    tree = config.read_yaml(
        f"streams: {{{TWO}, rgb: {{front: {{rate_hz: 3}}}}, lidar: {{topic: /p}}}}", source="x"
    )
    assert nested(tree)["streams"] == {
        "rgb": {"front": {"topic": "/f", "rate_hz": 3}, "left": {"topic": "/l"}},
        "lidar": {"topic": "/p"},
    }
    plain = config.read_yaml(f"streams: {{{TWO}, lidar: {{topic: /p}}}}", source="x")
    assert parse_robot(nested(plain)) == parse_robot(plain)
    assert not any("." in name for name in nested(plain)["streams"])


def test_where_a_named_sensor_hangs_may_be_written_either_way() -> None:
    lidars = "lidar.x: {topic: /x}, lidar.y: {topic: /y}"
    pose = "[0, 0, 0, 0, 0, 0, 1]"
    one = load(f"{{streams: {{{lidars}}}, view: {{extrinsics: {{lidar: {{x: {pose}}}}}}}}}")
    assert one == load(f"{{streams: {{{lidars}}}, view: {{extrinsics: {{lidar.x: {pose}}}}}}}")


def test_who_takes_one_camera_gets_it_without_names() -> None:
    pose = "[0, 0, 0, 0, 0, 0, 1]"
    robot = load(
        f"{{streams: {{{TWO}, lidar.top: {{topic: /t, rate_hz: 3}}}}, cameras: [left],"
        f" views: {{left: {{extrinsics: {{lidar.top: {pose}}}}}}}}}"
    )
    plain = load(
        "{streams: {rgb: {topic: /l}, lidar: {topic: /t, rate_hz: 3}},"
        f" view: {{extrinsics: {{lidar: {pose}}}}}, sync: {{reference: [rgb, lidar]}}}}"
    )
    assert robot.alone() == plain and plain.alone() is plain


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"streams: {{{TWO}}}",
            "the robot has 2 cameras (front, left), and this takes one; say which: "
            "--set cameras=[front]",
        ),
        (
            "streams: {rgb: {topic: /a}, lidar.x: {topic: /x}, lidar.y: {topic: /y}}",
            "the robot has lidar.x and lidar.y, and this takes one lidar; leave one out: "
            "--set \"streams.lidar.y.topic=''\"",
        ),
    ],
)
def test_who_takes_one_says_the_way_out_of_several(text, told) -> None:
    with pytest.raises(RobustsegError) as raised:
        load(text).alone()
    assert str(raised.value) == told
