"""Where the labels of a recording come from: a topic in it, a folder of pictures, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import Bag
from robustseg_core.codecs.picture_file import read_json
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.extraction.class_map import ClassMap
from robustseg_core.models.classes import CITYSCAPES, ClassSet
from robustseg_core.recording.labels import TOLERANCE_NS, Truth, open_truth
from robustseg_core.recording.scene import fingerprint as recording_id
from robustseg_core.recording.scene import scene_of
from robustseg_core.shards.levels import read_label_png
from robustseg_core.storage.budget import budget
from robustseg_core.storage.digest import sampled
from robustseg_core.types import IGNORE, MS

ACCOUNT = "labels.json"
"""Written by `robustseg label` beside its masks."""
_LATEST_NS = (1 << 63) - 1
WORDS = ("auto", "required", "none")


class Labels:
    """The labels of one recording, asked for by stamp in the order of the sets; a context manager.

    Args:
        path: the recording.
        told: `auto` (its label topic, if it has one), `required` (the same, but it must have one),
            `none`, the name of a topic, or a folder of 8-bit PNGs whose names end in the stamp in
            nanoseconds (`000007_1700000000466666667.png`), or of such folders by recording.
        size: (H, W) that labels are brought to; the nearest pixel counts.
        class_map: applied to every label.
        sure: pixels of which a teacher was less sure than this are ignored; in [0, 1].

    Raises:
        RobustsegError: there is no such topic or folder, or no topic where one is required.
    """

    def __init__(
        self,
        path: Path,
        told: str,
        *,
        size: tuple[int, int],
        class_map: ClassMap | None = None,
        sure: float = 0.0,
    ) -> None:
        self.source: Truth | Pictures | None = _open(path, told, sure)
        self.classes: ClassSet = CITYSCAPES
        if isinstance(self.source, Pictures):
            self.classes = self.source.classes or CITYSCAPES
        if class_map is not None and class_map.classes:
            self.classes = ClassSet(class_map.classes, class_map.palette)
        self._table = None if class_map is None else class_map.table()
        self._size = size
        self._stack = ExitStack()

    def __enter__(self) -> Labels:
        if isinstance(self.source, Truth):
            self._stack.enter_context(self.source)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def name(self) -> str:
        """The topic or folder; empty: there are no labels."""
        if isinstance(self.source, Pictures):
            return str(self.source.folder)
        return "" if self.source is None else self.source.topic

    def at(self, stamp_ns: int) -> NDArray[np.uint8] | None:
        """(H, W) class ids of the moment nearest to `stamp_ns`, or None: none is near.

        Raises:
            RobustsegError: a picture that cannot be read, or an id that is no class.
        """
        ids = None if self.source is None else self.source.at(stamp_ns)
        if ids is None:
            return None
        ids = _nearest(ids, self._size)
        if self._table is not None:
            ids = self._table[ids]
        names = self.classes.names
        if (strange := ids[(ids >= len(names)) & (ids != IGNORE)]).size:
            raise RobustsegError(
                f"{self.name}: the label at {stamp_ns} ns holds id {strange.max()}, but there are "
                f"{len(names)} classes ({names[0]} ... {names[-1]}); give a class map"
            )
        return ids


class Pictures:
    """A folder of label PNGs, found by the stamp in their names.

    Args:
        folder: what `robustseg label` wrote, or any folder of such pictures.
        sure: pixels whose confidence, as `robustseg label` wrote it, is less than this are ignored.

    Raises:
        RobustsegError: there is none in it.
    """

    def __init__(self, folder: Path, sure: float = 0.0) -> None:
        self.folder = folder
        self._least = int(np.ceil(sure * 255))
        self.classes: ClassSet | None = None
        self.recording: dict[str, Any] | None = None
        """Whose labels they are, where that is known: `scene.fingerprint`."""
        masks = folder / "masks" if (folder / "masks").is_dir() else folder
        stamped = [(_stamp(file), file) for file in masks.glob("*.png")]
        self._files = sorted((stamp, file) for stamp, file in stamped if stamp is not None)
        if not self._files:
            raise RobustsegError(
                f"{masks} holds no label; expected 8-bit PNGs whose names end in the stamp in "
                "nanoseconds, e.g. 1700000000466666667.png"
            )
        self._stamps = np.array([stamp for stamp, _ in self._files], np.int64)
        if (folder / ACCOUNT).is_file():
            self.classes, self.recording = _told(folder / ACCOUNT)

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last stamp."""
        return int(self._stamps[0]), int(self._stamps[-1])

    def at(self, stamp_ns: int) -> NDArray[np.uint8] | None:
        """(h, w) ids of the picture nearest to `stamp_ns`, or None: none is near."""
        place = int(np.argmin(np.abs(self._stamps - stamp_ns)))
        if abs(int(self._stamps[place]) - stamp_ns) > TOLERANCE_NS:
            return None
        file = self._files[place][1]
        ids = _read(file)
        if self._least:
            confidence = _read(self.folder / "confidence" / file.name)
            if confidence.shape != ids.shape:
                raise RobustsegError(
                    f"{self.folder / 'confidence' / file.name} is {confidence.shape} and its mask "
                    f"{ids.shape}; label again"
                )
            ids = np.where(confidence >= self._least, ids, np.uint8(IGNORE))
        return ids

    def fingerprint(self) -> dict[str, Any]:
        """What changes when the pictures do."""
        return {"files": len(self._files), "content": sampled(file for _, file in self._files)}


def _read(file: Path) -> NDArray[np.uint8]:
    try:
        budget().check(file.stat().st_size, "it has")
        return read_label_png(file.read_bytes())
    except (OSError, RobustsegError) as error:
        raise RobustsegError(f"{file}: {error}; write it again") from None


def fingerprint(path: Path, told: str) -> Any:
    """What a recipe says of the labels of `path`: the word or topic, or the pictures themselves."""
    folder = _folder(path, told)
    return told if folder is None else Pictures(folder).fingerprint()


def explain_none(labels: Labels, stamps: Sequence[int]) -> str:
    """Why none of the sets at `stamps` has a label."""
    if not labels.name:
        return "there is no label topic"
    text = f"no label of {labels.name} is within {TOLERANCE_NS // MS} ms of any set"
    if isinstance(labels.source, Pictures):
        first, last = labels.source.span_ns
        text += f": labels from {first} to {last} ns, sets from {min(stamps)} to {max(stamps)} ns"
    return text


def _open(path: Path, told: str, sure: float) -> Truth | Pictures | None:
    folder = _folder(path, told)
    if folder is not None:
        pictures = Pictures(folder, sure)
        if pictures.recording not in (None, recording_id(path)):
            raise RobustsegError(
                f"{folder} holds labels of {pictures.recording['name']!r}, not of {path}; "
                "give the folder with all labels, or label this recording too"
            )
        return pictures
    if told == "none":
        return None
    if told in WORDS:
        truth = open_truth([path])
        if not truth.topic and told == "required":
            raise RobustsegError(
                f"{path} has no topic of labels; give a folder of label PNGs, or learn without "
                "labels (labels=none)"
            )
        return truth if truth.topic else None
    with Bag(path) as bag:
        names = [topic.name for topic in bag.topics]
    if told not in names:
        raise RobustsegError(
            f"labels is {told!r}: neither one of {', '.join(WORDS)}, nor a folder, nor a topic of "
            f"{path}; {did_you_mean(told, names)}"
        )
    return Truth([path], told)


def _folder(path: Path, told: str) -> Path | None:
    """The folder of this recording's pictures; None: `told` is none."""
    if told in WORDS or not Path(told).is_dir():
        return None
    own = Path(told) / scene_of(path)
    return own if own.is_dir() else Path(told)


def _stamp(file: Path) -> int | None:
    digits = file.stem.rpartition("_")[2]
    if not digits.isdecimal() or len(digits) > len(str(_LATEST_NS)):
        return None
    stamp_ns = int(digits)
    return stamp_ns if stamp_ns <= _LATEST_NS else None


def _told(path: Path) -> tuple[ClassSet, dict[str, Any]]:
    """Classes and recording, as `robustseg label` told them."""
    tree = read_json(path)
    try:
        told = ClassMap.model_validate(
            {"ids": {}, "classes": tree["classes"], "palette": tree["palette"]}
        )
        whose = tree["recipe"]["recording"]
        whose = {**whose, "name": str(whose["name"])}
    except (RobustsegError, ValueError, TypeError, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise RobustsegError(f"{path} cannot be read ({text}); label again") from None
    return ClassSet(told.classes, told.palette), whose


def _nearest(ids: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) of (h, w): the pixel under each new pixel's center, as the sensors are resized."""
    (h, w), (height, width) = ids.shape, size
    rows = (np.arange(height) * 2 + 1) * h // (2 * height)
    cols = (np.arange(width) * 2 + 1) * w // (2 * width)
    picked: NDArray[np.uint8] = ids[rows[:, None], cols]
    return picked
