"""Public collections as people have them: any file may be any thing, and a sentence says so."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from robustseg_core import datasets
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.class_map import load_class_map
from robustseg_core.extraction.label_source import Pictures
from support.dataset_trees import MAKERS, MUSES_CALIB, Tree
from support.makers import pretend_png

pytestmark = pytest.mark.slow

NAMES = ("deliver", "mcubes", "muses")


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> dict[str, Tree]:
    """Tests put back what they damage."""
    return {name: MAKERS[name](tmp_path_factory.mktemp(name) / name) for name in NAMES}


def saved(array: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


def encoded(array: Any, form: str = ".png") -> bytes:
    return cv2.imencode(form, array)[1].tobytes()


def huge_npy() -> bytes:
    """A header that claims 4 TB."""
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    head += b" " * (117 - len(head)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


def hdf5(make: Any) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        make(file)
    return memory.getvalue()


def columns(**kinds: Any) -> bytes:
    """An event file of `kinds`, name -> (shape, type); nothing is written, so that it is small."""
    usual = {name: ((4,), "u2") for name in "xytp"}
    return hdf5(lambda file: [
        file.create_dataset(f"events/{name}", shape, kind, chunks=bool(shape) or None)
        for name, (shape, kind) in {**usual, **kinds}.items()
    ])  # fmt: skip


PNG = [
    b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), pretend_png(9000, 9000),
    pretend_png(2**31 - 1, 2**31 - 1), pretend_png(0, 0), encoded(np.zeros((1, 1), np.uint8)),
    encoded(np.zeros((54, 96), np.uint16)), encoded(np.full((52, 52, 4), 200, np.uint8)),
    encoded(np.zeros((54, 96), np.float32), ".tiff"), encoded(np.zeros((54, 96, 3), "u1"), ".jpg"),
    encoded(np.zeros((32, 191), np.uint8)), encoded(np.zeros((32, 192), np.uint8)),
]  # fmt: skip
NPY = [
    b"", b"\x93NUMPY", archive(), huge_npy(), saved(np.array(3.0)), saved(np.zeros((0, 0))),
    saved(np.zeros((4, 4, 0))), saved(np.zeros((4, 4), "c8")), saved(np.array([["a"]])),
    saved(np.array([[None]]), allow_pickle=True), saved(np.zeros((2, 2, 2, 2))),
    saved(np.zeros((3, 3))), saved(np.zeros(5, [("a", "f4")])),
]  # fmt: skip
H5 = [
    b"", b"\x89HDF\r\n\x1a\n", hdf5(lambda file: None), hdf5(lambda f: f.create_group("events/x")),
    columns(x=((1 << 40,), "u2")), columns(x=((2, 2), "u2")), columns(t=((4,), "S3")),
    columns(x=((5,), "u2")), columns(p=((4,), "c8")), columns(x=((), "u2")),
    hdf5(lambda f: [f.create_group(f"events/{name}") for name in "xytp"]),
]  # fmt: skip
BIN = [b"", b"x", bytes(48), np.full(12, np.nan).tobytes(), np.full(12, 1e308).tobytes()]
TEXT = [
    b"",
    b"\xff\xfe",
    b"../../etc/passwd\n",
    b"a\0b\n",
    b"/etc/passwd\n",
    b"\x1b[31m\n",
    b"\n\n",
]
SCENE = {"split": "train", "weather": "fog", "time_of_day": "day"}
JSON = [
    b"", b"{", b"[]", b"3", b"null", b"[" * 10**5, b"\xff", b'{"intrinsics": []}',
    *(json.dumps(tree).encode() for tree in (
        {"a": 3}, {"a": []}, {"a": SCENE | {"weather": "fog/day"}}, {"a": SCENE | {"weather": 3}},
        {"a": SCENE | {"weather": ""}}, {"a": SCENE | {"weather": "/etc"}},
        {"a": SCENE | {"time_of_day": ".."}}, {"a": SCENE | {"path_to_frame_camera": 7}},
        {"a": SCENE | {"split": []}}, {"..": SCENE}, {"": SCENE}, {"a\0": SCENE},
        MUSES_CALIB | {"extrinsics": {"lidar2rgb": [[float("nan")] * 4] * 4}},
        MUSES_CALIB | {"extrinsics": {"lidar2rgb": 3, "event2rgb": 3}},
        MUSES_CALIB | {"intrinsics": {"rgb": {"K": [[10**400] * 3] * 3}}},
        MUSES_CALIB | {"intrinsics": {"rgb": {"K": "far"}}},
    )),
]  # fmt: skip
KINDS = {".png": PNG, ".npy": NPY, ".h5": H5, ".bin": BIN, ".txt": TEXT, ".json": JSON}


def files(root: Path) -> Iterator[Path]:
    """The files of one sample that is trained on, from every folder; lists and calibration."""
    seen = set()
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        kind = (inside[0], path.suffix)
        if path.is_file() and kind not in seen and not {"val", "test"} & set(inside):
            seen.add(kind)
            yield path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_anything_is_a_sample_or_a_sentence(name, trees):
    tree = trees[name]
    refused = 0
    for path in files(tree.paths[0]):
        whole = path.read_bytes()
        for content in (*KINDS[path.suffix], whole[: len(whole) // 2], whole[:-1]):
            path.write_bytes(content)
            tracemalloc.start()
            try:
                data = datasets.load(name)(tree.paths, "train", options=tree.options)
                for sample in data:
                    assert all(image.dtype == np.float32 for image in sample.images.values())
            except RobustsegError as error:
                refused += 1
                assert "\x1b" not in str(error) and len(str(error)) < 700, str(error)
            except Exception as error:
                pytest.fail(f"{path} of {content[:60]!r}: {type(error).__name__}: {error}")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 100_000_000, f"{path} of {content[:60]!r} took {peak} bytes"
        path.write_bytes(whole)
    assert refused > 30


@pytest.mark.parametrize("suffix", [".json", ".bin", ".npy"])
def test_a_file_of_terabytes_is_not_read(suffix, tmp_path):
    name = "mcubes" if suffix == ".npy" else "muses"
    tree = MAKERS[name](tmp_path / name)
    path = next(path for path in files(tree.paths[0]) if path.suffix == suffix)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    with pytest.raises(RobustsegError, match=r"has .*1099511627776 bytes"):
        list(datasets.load(name)(tree.paths, "train", options=tree.options))


@pytest.mark.parametrize(
    "text",
    [
        "3", "[]", "ids: 3", "ids: {a: b}", "ids: {0: 256}", "ids: {-1: 0}", "{1: 2, road: 3}",
        "{1: [2]}", "ids: {0: 0}\nclasses: [road]", "ids: {0: 0}\nothers: drop", "others: keep",
        "ids: {0: 0}\nclasses: [a, a]\npalette: [[0, 0, 0], [0, 0, 0]]",
        "ids: {0: 0}\nclasses: ['']\npalette: [[0, 0, 0]]",
        "ids: {0: 0}\nclasses: [a]\npalette: [[0, 0, 999]]",
        "ids: {0: 0}\nclasses: [\"a\\nb\"]\npalette: [[0, 0, 0]]", "\0", "ids: {0: .inf}",
    ],
)  # fmt: skip
def test_a_class_map_that_is_none_is_a_sentence(text, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(RobustsegError) as caught:
        load_class_map(path)
    assert "map.yaml" in str(caught.value)


def labelled(folder: Path, name: str = "000000_17.png", content: bytes | None = None) -> Path:
    folder.mkdir()
    ids = encoded(np.zeros((4, 6), np.uint8))
    (folder / name).write_bytes(ids if content is None else content)
    return folder


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 30, "9" * 200])
def test_a_number_that_is_no_stamp_names_no_label(digits, tmp_path):
    with pytest.raises(RobustsegError, match="holds no label"):
        Pictures(labelled(tmp_path / "masks", f"{digits}.png"))
    stamp_ns = 1_700_000_000_466_666_667
    assert Pictures(labelled(tmp_path / "other", f"{stamp_ns}.png")).span_ns == (stamp_ns,) * 2


@pytest.mark.parametrize("content", [b"", pretend_png(9000, 9000), encoded(np.zeros((4, 6, 3)))])
def test_a_label_that_is_no_picture_is_a_sentence(content, tmp_path):
    pictures = Pictures(labelled(tmp_path / "masks", content=content))
    with pytest.raises(RobustsegError, match=r"000000_17.png: .*write it again"):
        pictures.at(17)


def test_a_label_of_terabytes_is_not_read(tmp_path):
    pictures = Pictures(folder := labelled(tmp_path / "masks"))
    with next(folder.glob("*.png")).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(RobustsegError, match=r"000000_17.png: it has 1 TiB"):
        pictures.at(17)


@pytest.mark.parametrize(
    "account",
    [
        "", "{", "[]", "3", "[" * 10**5, '{"classes": 3, "palette": [], "recipe": {}}',
        '{"classes": ["a"], "palette": [[0, 0, 0]], "recipe": {"recording": 3}}',
        '{"classes": ["a"], "palette": [[0, 0, 0]], "recipe": {"recording": {}}}',
        '{"classes": ["a", "a"], "palette": [[0, 0, 0]], "recipe": {"recording": {"name": "a"}}}',
        '{"classes": ["a"], "palette": [[0, 0, -1]], "recipe": {"recording": {"name": "a"}}}',
    ],
)  # fmt: skip
def test_an_account_of_labels_that_is_none_is_a_sentence(account, tmp_path):
    folder = labelled(tmp_path / "masks")
    (folder / "labels.json").write_text(account)
    with pytest.raises(RobustsegError, match=r"labels.json"):
        Pictures(folder)
