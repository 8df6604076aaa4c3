"""Recordings of event cameras' own software: named for what they are, with the way to convert."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from robustseg_core.bag.files import find_files
from robustseg_core.cli.main import app
from robustseg_core.errors import RobustsegError
from robustseg_core.models.files import expect_checkpoint

RAW = b"% Date 2020-09-14 09:03:25\n% integrator_name Prophesee\n% evt 2.0\n\x00\x01"
NEWER = b"% camera_integrator_name Prophesee\n% format EVT21;height=720;width=1280\n% end\n\0"
DAT = b"% Data file containing CD events.\n% Version 2\n\x0c\x08"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (RAW, r"drive.x is a RAW recording of Prophesee's software \(EVT 2.0\), no bag; .*"
              r"raw_to_bag.py drive.x drive "),
        (NEWER, r"\(EVT 21\), no bag; convert it: python docs/examples/raw_to_bag.py"),
        (DAT, "drive.x is a DAT file of Prophesee's software, no bag; convert the RAW recording"),
        (b"#!AER-DAT4.0\r\n\0", "is an AEDAT 4.0 recording of iniVation's software, no bag; "
                                "convert it with dv_ros_aedat4 .*: convert_aedat4 -i drive.aedat4"),
        (b"#!AER-DAT2.0\r\n\0", "AEDAT 2.0 .* no bag; save it as AEDAT4 with iniVation's DV, and"),
    ],
    ids=["raw", "newer raw", "dat", "aedat4", "aedat2"],
)  # fmt: skip
def test_a_recording_of_another_make_is_named_with_the_way_to_convert_it(head, said, tmp_path):
    path = tmp_path / "drive.x"
    path.write_bytes(head)
    with pytest.raises(RobustsegError, match=said) as caught:
        find_files(path, [])
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("command", ["inspect", "run"])
def test_the_commands_say_it_before_anything_is_written(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive.raw").write_bytes(RAW)
    result = CliRunner().invoke(app, [command, "drive.raw"])
    assert isinstance(result.exception, RobustsegError) or result.exit_code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drive.raw"]


@pytest.mark.parametrize("suffix", ["", ".mcap", ".safetensors"])
def test_what_is_neither_file_nor_folder_is_called_what_it_is(suffix, tmp_path):
    paths = {kind: tmp_path / f"{kind}{suffix}" for kind in ("pipe", "ring", "nothing", "gone")}
    os.mkfifo(paths["pipe"])
    paths["ring"].symlink_to(paths["ring"])
    paths["nothing"].symlink_to(tmp_path / "moved away")
    said = {
        "pipe": "is a pipe, which can be read only once",
        "ring": "is a link that leads back to itself",
        "nothing": "is a link to nothing",
        "gone": "does not exist",
    }
    check = expect_checkpoint if suffix == ".safetensors" else lambda path: find_files(path, [])
    for kind, path in paths.items():
        with pytest.raises(RobustsegError, match=f"{kind}{suffix} {said[kind]}; give"):
            check(path)
