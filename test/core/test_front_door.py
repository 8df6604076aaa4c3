"""`import robustseg_core`: every public name is there, and nothing heavy is loaded for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import robustseg_core
from robustseg_core.predictor import example, load
from robustseg_core.rig import Rig
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import Fault, LabelMap, ModelSpec, State
from support import ROOT

PUBLIC = {
    "Fault": Fault,
    "LabelMap": LabelMap,
    "ModelSpec": ModelSpec,
    "Rig": Rig,
    "RobotConfig": RobotConfig,
    "Segmenter": Segmenter,
    "State": State,
    "example": example,
    "load": load,
}
HEAVY = ("torch", "cv2", "numba", "matplotlib", "lightning", "open3d", "rosbags")
HELP = (
    "from unittest import mock\n"
    "from robustseg_core.cli.main import main\n"
    "with mock.patch('sys.argv', ['robustseg', '--help']), mock.patch('sys.exit'):\n    main()\n"
)


def test_the_public_names_are_those_of_their_modules() -> None:
    assert set(robustseg_core.__all__) == {*PUBLIC, "__version__"}
    for name, thing in PUBLIC.items():
        assert getattr(robustseg_core, name) is thing
    assert dir(robustseg_core) == sorted(robustseg_core.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = robustseg_core.Segmentor
    with pytest.raises(ImportError):
        from robustseg_core import Segmentor  # noqa: F401


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    ["import robustseg_core\ndir(robustseg_core)", "from robustseg_core import State, Fault", HELP],
    ids=["import", "nouns", "help"],
)
def test_what_needs_no_network_loads_none(code: str) -> None:
    code += f"\nimport sys; print('loaded:', *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize("package", ["robustseg_core", "robustseg_ros"])
def test_type_checkers_are_told_that_there_are_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
