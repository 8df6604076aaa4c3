"""One table: what the model says is what the node declares, refuses and prints."""

from __future__ import annotations

import pytest

from support import ROOT

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from robustseg_core import config
from robustseg_core.errors import RobustsegError
from robustseg_core.robot.config import RobotConfig
from robustseg_core.robot.parameters import parameters as all_parameters
from robustseg_core.robot.parameters import template
from robustseg_ros import parameters

pytestmark = pytest.mark.ros


def given(**values):
    """Overrides; `__` stands for a dot."""
    return [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]


def test_every_field_is_a_parameter_with_its_description_and_range(node):
    robot = node()
    assert parameters.declare(robot) == RobotConfig()
    for parameter in all_parameters():
        descriptor = robot.describe_parameter(parameter.name)
        assert descriptor.description == parameter.description
        assert descriptor.additional_constraints == parameter.when
    rate = robot.describe_parameter("streams.rgb.rate_hz").floating_point_range[0]
    assert (rate.from_value, rate.to_value) == (0.0, 100_000.0)
    ring = robot.describe_parameter("sync.ring").integer_range[0]
    assert (ring.from_value, ring.to_value) == (2, 1000)
    assert robot.get_parameter("streams.lidar.topic").value == ""
    assert robot.get_parameter("streams.depth.limits.valid_share").value == 0.01


def test_overrides_make_the_same_configuration_as_the_file_does(node):
    robot = node(
        *given(
            streams__rgb__topic="/image",
            streams__rgb__rate_hz=30,  # a YAML writer's 30 is a float too
            streams__rgb__rectified=False,
            streams__rgb__limits__black_mean=5.0,
            view__intrinsics=[500.0, 500.0, 320.0, 240.0],
            sync__reference=["event", "rgb"],
        )
    )
    tree = {
        "streams": {
            "rgb": {
                "topic": "/image",
                "rate_hz": 30,
                "rectified": False,
                "limits": {"black_mean": 5.0},
            }
        },
        "view": {"intrinsics": [500, 500, 320, 240]},
        "sync": {"reference": ["event", "rgb"]},
    }
    declared = parameters.declare(robot)
    assert declared == config.parse(RobotConfig, tree)
    assert parameters.read(robot) == declared
    assert robot.get_parameter("streams.rgb.rate_hz").value == 30.0
    assert robot.get_parameter("view.extrinsics.lidar").value is None


@pytest.mark.parametrize(
    ("overrides", "tree"),
    [
        ({"streams__rgb__rate_hz": -5.0}, {"streams": {"rgb": {"rate_hz": -5.0}}}),
        ({"device": "tpu"}, {"device": "tpu"}),
        ({"view__intrinsics": [1.0, 2.0]}, {"view": {"intrinsics": [1.0, 2.0]}}),
        ({"sync__deadline_ms": "soon"}, {"sync": {"deadline_ms": "soon"}}),
    ],
)
def test_a_bad_value_is_refused_with_the_sentence_that_the_cli_uses(node, overrides, tree):
    with pytest.raises(RobustsegError) as ours:
        config.parse(RobotConfig, tree)
    with pytest.raises(RobustsegError) as theirs:
        parameters.declare(node(*given(**overrides)))
    assert str(theirs.value) == str(ours.value)


def test_a_misspelt_parameter_is_named_with_its_neighbor(node, monkeypatch):
    robot = node(*given(streams__rgb__topicc="/a", use_sim_time=True, qos_overrides__x="1"))
    said: list[str] = []
    monkeypatch.setattr(type(robot.get_logger()), "warning", lambda self, text: said.append(text))
    parameters.declare(robot)
    assert said == [
        "unknown parameter 'streams.rgb.topicc' is ignored; did you mean 'streams.rgb.topic'?"
    ]


def test_a_batch_with_one_bad_value_changes_nothing(node):
    robot = node()
    parameters.declare(robot)
    parameters.guard(robot, lambda: False)
    batch = given(sync__deadline_ms=20.0, device="tpu")
    result = robot.set_parameters_atomically(batch)
    assert not result.successful and "device is 'tpu'" in result.reason
    assert robot.get_parameter("sync.deadline_ms").value == 40.0
    assert robot.set_parameters_atomically(given(sync__deadline_ms=20.0)).successful
    assert parameters.read(robot).sync.deadline_ms == 20.0


def test_sensors_that_nobody_knows_are_left_out_with_one_sentence(node, monkeypatch):
    """Of one and of several, as a robot's file may speak of what this version cannot read."""
    robot = node(
        *given(
            streams__rgb__front__topic="/a",
            streams__radar__front__topic="/r",
            streams__radar__front__rate_hz=10.0,
            streams__ldar__topic="/l",
        )
    )
    said: list[str] = []
    monkeypatch.setattr(type(robot.get_logger()), "warning", lambda self, text: said.append(text))
    assert parameters.declare(robot).topics == {"rgb.front": "/a"}
    assert said == [
        "streams.radar is ignored: no sensor is called that; did you mean 'lidar'?",
        "streams.ldar is ignored: no sensor is called that; did you mean 'lidar'?",
    ]


@pytest.mark.parametrize("clock", [False, True])
def test_under_simulated_time_the_sensors_count_as_simulated(node, clock):
    robot = node(*given(use_sim_time=clock))
    parameters.declare(robot)
    assert parameters.read(robot).health.simulated == clock


def test_an_active_node_takes_what_may_change_and_refuses_the_rest(node):
    robot, applied = node(), []
    parameters.declare(robot)
    parameters.guard(robot, lambda: True, applied.append)
    assert robot.set_parameters_atomically(given(health__grace_s=3.0)).successful
    (after,) = applied
    assert after == config.parse(RobotConfig, {"health": {"grace_s": 3.0}})
    both = given(health__grace_s=4.0, sync__deadline_ms=20.0)
    assert "sync.deadline_ms takes effect" in robot.set_parameters_atomically(both).reason
    bad = robot.set_parameters_atomically(given(streams__rgb__limits__black_mean=300.0))
    assert not bad.successful and parameters.read(robot) == after and len(applied) == 1
    result = robot.set_parameters_atomically(given(streams__rgb__topic="/other"))
    assert not result.successful
    assert "ros2 lifecycle set /robustseg deactivate" in result.reason
    assert robot.get_parameter("streams.rgb.topic").value == ""


def test_the_template_is_a_parameter_file_that_changes_nothing(node, tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(template())
    loaded = config.load(RobotConfig, path)
    assert loaded.model_copy(update={"streams": {}}) == RobotConfig()
    assert not any(stream.topic for stream in loaded.streams.values())
    for parameter in all_parameters():
        assert f"{parameter.path[-1]}:" in template()


@pytest.mark.parametrize("text", [template(), (ROOT / "config" / "robot.yaml").read_text()])
def test_ros_itself_reads_the_files_that_we_write(text, tmp_path):
    import rclpy
    from rclpy.node import Node

    path = tmp_path / "robot.yaml"
    path.write_text(text)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=101, args=["x", "--ros-args", "--params-file", str(path)])
    robot = Node("robustseg", context=context, enable_rosout=False)
    declared = parameters.declare(robot)
    file = config.load(RobotConfig, path)
    named = {name: s for name, s in file.streams.items() if s.topic}
    assert declared == file.model_copy(update={"streams": named})
    robot.destroy_node()
    rclpy.shutdown(context=context)
