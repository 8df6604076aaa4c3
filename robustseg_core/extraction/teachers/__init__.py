"""Who labels recordings: a network of any make, as an engine; one kind per file.

A teacher takes what a `Segmenter` gives every engine, so health monitor and synchronizer stand
before it, too: of a broken picture it makes no label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustseg_core.engines.weights import weights_file
from robustseg_core.errors import RobustsegError, what_is
from robustseg_core.models import hub
from robustseg_core.models.classes import ClassSet
from robustseg_core.models.weights import is_ours
from robustseg_core.types import Bundle, ModelSpec

CAMERA = "rgb"
KINDS = (
    "a checkpoint of ours (.safetensors), an .onnx file, or the folder or hub id of a semantic "
    "segmentation checkpoint of `transformers`"
)


class Teacher(ABC):
    """An `Engine` that says whose words it speaks.

    Args:
        name: for people.
        spec: what it is fed, and its classes.
        digest: of everything that its answers depend on.
        notices: what people should know of it.
    """

    def __init__(
        self, name: str, spec: ModelSpec, digest: str, notices: Sequence[str] = ()
    ) -> None:
        self.name, self.spec, self.digest = name, spec, digest
        self.notices = list(notices)

    @abstractmethod
    def __call__(self, bundle: Bundle) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(H, W) class ids and (H, W) confidence 0..255, as every engine."""

    @abstractmethod
    def speaking(self, table: NDArray[np.uint8], classes: ClassSet) -> Teacher:
        """The same teacher, with another list of classes.

        Args:
            table: (K,) id in `classes` of each of its own; `IGNORE` where there is none.
            classes: the new list.
        """


@dataclass(frozen=True, slots=True)
class TeacherSource:
    """What `open_teacher` takes: a teacher that can be sent to another process."""

    named: str
    device: str = "auto"
    size: tuple[int, int] | None = None
    classes: Path | None = None

    def teacher(self) -> Teacher:
        """The teacher; a process opens it once.

        Raises:
            RobustsegError: as `open_teacher`.
        """
        return _opened(self)


@lru_cache(maxsize=1)
def _opened(source: TeacherSource) -> Teacher:
    return open_teacher(
        source.named, device=source.device, size=source.size, classes=source.classes
    )


def open_teacher(
    named: str | Path,
    *,
    device: str = "auto",
    size: tuple[int, int] | None = None,
    classes: Path | None = None,
) -> Teacher:
    """The teacher that is meant: one of ours, an ONNX file, or one of `transformers`.

    Args:
        named: a path, the name of shipped weights, or OWNER/NAME[@REVISION] on the hub.
        device: auto, cpu, cuda, cuda:N.
        size: (H, W) of the pictures that it is shown; None: what it was made for.
        classes: YAML list of names, for an ONNX file that does not tell its own.

    Raises:
        RobustsegError: there is none, it cannot be read, or its library is not installed.
    """
    text = str(named)
    path = Path(text)
    if path.suffix == ".onnx":
        from robustseg_core.extraction.teachers.onnx import OnnxTeacher

        return OnnxTeacher(path, device=device, size=size, classes=classes)
    if classes is not None:
        raise RobustsegError(
            f"{text} tells its own classes, and {classes} lists others; leave --classes out (it is "
            "for .onnx files)"
        )
    if path.is_dir() or not hub.is_path(text):
        from robustseg_core.extraction.teachers.transformers import TransformersTeacher

        return TransformersTeacher(text, device=device, size=size)
    file = path if len(path.parts) > 1 or text.startswith(".") else weights_file(text)
    if not file.is_file():
        raise RobustsegError(f"{file} {what_is(file)}; give {KINDS}")
    if not is_ours(file):
        raise RobustsegError(f"{file} is no checkpoint of ours; give {KINDS}")
    if size is not None:
        raise RobustsegError(
            f"{text} is made for pictures of its own size; leave the teacher's size out"
        )
    from robustseg_core.extraction.teachers.ours import OurTeacher

    return OurTeacher(file, device=device)
