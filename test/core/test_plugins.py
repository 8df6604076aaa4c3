"""A folder is a registry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from robustseg_core import modalities, plugins
from robustseg_core.errors import RobustsegError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    package = tmp_path / "kit_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_base.py").write_text("class Tool: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [n for n in sys.modules if n.startswith("kit_for_test")]:
        del sys.modules[name]


def tool_base():
    from importlib import import_module

    return import_module("kit_for_test._base").Tool


def test_sensors_are_found_by_their_file_names():
    files = sorted(file.stem for file in Path(modalities.__file__).parent.glob("[a-z]*.py"))
    assert modalities.available() == files and {"depth", "event", "lidar", "rgb"} <= set(files)


def test_listing_imports_nothing(folder):
    (folder / "broken.py").write_text("raise RuntimeError('imported')\n")
    assert plugins.available("kit_for_test") == ["broken"]


def test_the_only_public_subclass_is_the_plugin(folder):
    (folder / "saw.py").write_text(
        "from kit_for_test._base import Tool\nclass Saw(Tool): pass\nclass _Helper(Tool): pass\n"
    )
    assert plugins.load("kit_for_test", "saw", tool_base()).__name__ == "Saw"


def test_two_classes_in_one_file_are_an_error(folder):
    (folder / "two.py").write_text(
        "from kit_for_test._base import Tool\nclass A(Tool): pass\nclass B(Tool): pass\n"
    )
    with pytest.raises(RobustsegError, match="defines 2 public Tool classes"):
        plugins.load("kit_for_test", "two", tool_base())


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(RobustsegError, match="no Modality called 'lidr'; did you mean 'lidar'"):
        modalities.load("lidr")
