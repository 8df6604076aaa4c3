"""What `ros2 run` starts, on a robot where something is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCK = "import sys; sys.modules[{module!r}] = None; "
START = "from robustseg_ros.programs import {program}; sys.exit({program}())"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "module", "way_out"),
    [
        ("segment_node", "torch", "pip install -r requirements-robot.txt"),
        ("segment_node", "rclpy", "source ROS 2's setup.bash"),
        ("play_node", "rosbags", "pip install -r requirements-robot.txt"),
        ("fault_node", "cv2", "pip install -r requirements-robot.txt"),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_way_out(program, module, way_out):
    code = BLOCK.format(module=module) + START.format(program=program)
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {module} cannot be imported")
    assert way_out in done.stderr and done.stderr.count("\n") == 1


def test_a_library_of_ros_that_is_not_found_is_said_like_it(monkeypatch, capsys):
    from robustseg_ros import programs

    def fails(_name):
        raise ImportError("librcl_action.so: cannot open shared object file")

    monkeypatch.setattr(programs.importlib, "import_module", fails)
    assert programs.segment_node() == 2
    said = capsys.readouterr().err
    assert "librcl_action.so" in said and "setup.bash" in said and "Traceback" not in said


def test_a_defect_of_ours_is_not_called_a_missing_package(monkeypatch):
    from robustseg_ros import programs

    def fails(_name):
        raise ImportError("no such name", name="robustseg_core.intake")

    monkeypatch.setattr(programs.importlib, "import_module", fails)
    with pytest.raises(ImportError, match="no such name"):
        programs.segment_node()


def test_ctrl_c_while_libraries_load_is_as_quiet_as_later(monkeypatch, capsys):
    from robustseg_ros import programs

    def interrupted(_name):
        raise KeyboardInterrupt

    monkeypatch.setattr(programs.importlib, "import_module", interrupted)
    assert programs.segment_node() == 0 and not capsys.readouterr().err
