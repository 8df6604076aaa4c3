"""Pictures and videos as recordings of one camera: images at their own times, and a guessed lens.

A file name that ends in a time says when its picture was taken; a video says it of each frame. What
is assumed, because nobody says it, is a notice of the bag.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

from robustseg_core.bag.medium import PICTURE_SUFFIXES, VIDEO, files_named, format_of, medium_of
from robustseg_core.bag.typestore import typestore
from robustseg_core.codecs.fields import most_pixels
from robustseg_core.codecs.message_types import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from robustseg_core.codecs.picture import check_claim
from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import budget
from robustseg_core.text import visible
from robustseg_core.types import LONGEST_SIDE, MS, SECOND, Rejection

EPOCH_NS = 1_000_000_000 * SECOND
"""When a recording begins that does not say it; always the same, so that results repeat."""
RATE_HZ = 10.0
"""Of pictures whose names hold no times."""
ACROSS_DEG = 60.0
"""Horizontal angle of a lens of which nothing is known; phones and webcams have 55 to 78."""
WHOLE = 0.9
"""Of the length that a container tells, roughly, this much comes of a whole one."""
FILM_MM = 36.0
"""Width of the film that `FocalLengthIn35mmFilm` is about (Exif 2.32, tag 41989)."""
_JPEG = b"\xff\xd8"
"""How one begins (ITU-T T.81, B.1.1.3)."""
_LONGEST_HEADER = 1 << 22
"""Bytes of a JPEG before its picture: some dozens of segments of 64 KiB each, EXIF and colors."""
FRAME_ID = "camera"
TOPICS = {
    IMAGE: "/camera/image_raw",
    COMPRESSED_IMAGE: "/camera/image_raw/compressed",
    CAMERA_INFO: "/camera/camera_info",
}

_FFMPEG = {
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file",
}
"""What is wrong is said by us, and a file leads to no other place."""
_ORIENTATION, _EXIF, _FOCAL = 0x0112, 0x8769, 0xA405


class Camera:
    """A picture, a folder of pictures or a video, as `Bag` has the files of a recording.

    Args:
        path: of a kind that `medium_of` knows.
        notices: get a sentence for what is assumed or damaged.

    Raises:
        RobustsegError: nothing in it can be shown.
    """

    def __init__(self, path: Path, notices: list[str]) -> None:
        self.name = path.name
        self._notices = notices
        self._source = _Video(path) if medium_of(path) == VIDEO else _Pictures(path)
        self.connections = [
            _connection(number, kind, self._source.count)
            for number, kind in enumerate((self._source.kind, CAMERA_INFO))
        ]
        self.count = 2 * self._source.count
        self.start_ns, self.end_ns = self._source.start_ns, self._source.end_ns
        name = visible(self.name)
        notices += [f"{name}: {text}" for text in self._source.assumed]
        width = self._source.size[1]
        self._focal = self._source.focal
        if self._focal is None:
            self._focal = width / 2 / math.tan(math.radians(ACROSS_DEG / 2))
            notices.append(
                f"{name} says nothing of its lens: a pinhole of {ACROSS_DEG:g} degrees across is "
                "assumed; set view.intrinsics where that matters (masks need no lens)"
            )

    def rows(self, wanted: set[str] | None) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time, CDR) of the topics `wanted` (None: all), in order of time."""
        image, info = self.connections
        store, last_ns = typestore(), self.start_ns
        for time_ns, size, make in self._source.frames():
            last_ns = time_ns
            if wanted is None or info.topic in wanted:
                told = self._info(time_ns, size)
                yield info, time_ns, bytes(store.serialize_cdr(told, CAMERA_INFO))
            if wanted is None or image.topic in wanted:
                raw = store.serialize_cdr(make(_header(time_ns)), self._source.kind)
                yield image, time_ns, bytes(raw)
        came_s, told_s = (last_ns - self.start_ns) / SECOND, self._source.told_s
        if came_s < WHOLE * told_s:
            text = f"{visible(self.name)} breaks off after {came_s:.2f} of {told_s:.2f} s"
            if text not in self._notices:
                self._notices.append(text)

    def _info(self, time_ns: int, size: tuple[int, int]) -> Any:
        """CameraInfo of a pinhole whose axis is in the middle of the image."""
        types = typestore().types
        (height, width), focal = size, self._focal
        k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1], np.float64)
        p = np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).ravel()
        roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)  # noqa: FBT003
        return types[CAMERA_INFO](
            header=_header(time_ns),
            height=height,
            width=width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=k,
            r=np.eye(3).ravel(),
            p=p,
            binning_x=0,
            binning_y=0,
            roi=roi,
        )


_Frame = tuple[int, tuple[int, int], Callable[[Any], Any]]
"""Time, (H, W), and what makes the message with a header."""


def _headed(file: Path) -> BinaryIO:
    """The file, or of a JPEG no more than its header may take: Pillow looks for a marker byte by
    byte, to the end of a file that holds none."""
    source = file.open("rb")
    jpeg = source.read(2) == _JPEG
    source.seek(0)
    if not jpeg:
        return source
    with source:
        return io.BytesIO(source.read(_LONGEST_HEADER))


class _Pictures:
    """Files of pictures, in order."""

    kind = COMPRESSED_IMAGE
    told_s = 0.0

    def __init__(self, path: Path) -> None:
        files = files_named(path, PICTURE_SUFFIXES) if path.is_dir() else [path]
        self._files, times = _in_time_order(files)
        self.assumed: list[str] = []
        if times is None:
            times = [EPOCH_NS + round(k * SECOND / RATE_HZ) for k in range(len(files))]
            if len(files) > 1:
                self.assumed.append(
                    f"the names of its pictures hold no times: {RATE_HZ:g} a second are assumed "
                    "(names may end in seconds or nanoseconds, 1700000000.466.png)"
                )
        self._times = times
        self.count = len(files)
        self.start_ns, self.end_ns = times[0], times[-1]
        self.size, self.focal = self._first_size()

    def frames(self) -> Iterator[_Frame]:
        """Each picture; a damaged one is passed on as it is, to be rejected and counted."""
        for time_ns, file in zip(self._times, self._files, strict=True):
            try:
                budget().check(file.stat().st_size, f"{file} has")
                data = file.read_bytes()
            except OSError as error:
                raise RobustsegError(
                    f"cannot read {file}: {error.strerror}; check its rights"
                ) from None
            size, form, data = _as_message(data)
            payload = np.frombuffer(data, np.uint8)

            def make(header: Any, form: str = form, payload: Any = payload) -> Any:
                return typestore().types[COMPRESSED_IMAGE](header, form, payload)

            yield time_ns, size or self.size, make

    def _first_size(self) -> tuple[tuple[int, int], float | None]:
        """(H, W) and focal length, in pixels, of the first picture that can be opened.

        Raises:
            RobustsegError: none can.
        """
        for file in self._files:
            try:
                with _headed(file) as source, Image.open(source) as picture:
                    exif = picture.getexif()
                    width, height = picture.size
                    if exif.get(_ORIENTATION, 1) in (5, 6, 7, 8):
                        width, height = height, width
                    told = exif.get_ifd(_EXIF).get(_FOCAL)
            except Exception:
                continue
            focal = float(told) / FILM_MM * max(width, height) if told else None
            return (height, width), focal
        raise RobustsegError(
            f"{self._files[0]} is no readable picture"
            + (f", nor is any of the {len(self._files)}" if len(self._files) > 1 else "")
            + "; copy it again, or convert it to PNG or JPEG"
        )


class _Video:
    """Frames of a video, decoded by FFmpeg in OpenCV."""

    kind = IMAGE
    focal = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self.assumed: list[str] = []
        video = self._open()
        first = _read(video)
        if first is None:
            raise RobustsegError(
                f"{path} is no video that can be played: no frame of it decodes; copy it again, or "
                "convert it (ffmpeg -i IN OUT.mp4)"
            )
        self.size = first.shape[0], first.shape[1]
        if max(self.size) > LONGEST_SIDE:
            raise RobustsegError(
                f"{path} has frames of {self.size[1]}x{self.size[0]} pixels; expected at most "
                f"{LONGEST_SIDE} along a side; scale it down"
            )
        rate_hz = video.get(cv2.CAP_PROP_FPS)
        self._rate_hz = rate_hz if math.isfinite(rate_hz) and 0.1 <= rate_hz <= 1000 else 30.0
        count = video.get(cv2.CAP_PROP_FRAME_COUNT)
        video.release()
        if not 1 <= count < 1e8:  # the container does not say it
            self.count = sum(1 for _ in self._stamped())
        else:
            self.count = round(count)
        self.told_s = (self.count - 1) / self._rate_hz
        """How long the container says that it is, without its last frame."""
        self.start_ns = EPOCH_NS
        self.end_ns = EPOCH_NS + self._last_ns()

    def frames(self) -> Iterator[_Frame]:
        """Each frame at its own time."""
        for time_ns, frame in self._stamped():
            height, width = frame.shape[:2]

            def make(header: Any, frame: Any = frame) -> Any:
                height, width = frame.shape[:2]
                pixels = np.ascontiguousarray(frame).reshape(-1)
                return typestore().types[IMAGE](header, height, width, "bgr8", 0, 3 * width, pixels)

            yield time_ns, (height, width), make

    def _stamped(self) -> Iterator[tuple[int, Any]]:
        """(time, BGR frame): the container's time, or by its rate where that does not go on."""
        video, last_ns = self._open(), -1
        try:
            while (frame := _read(video)) is not None:
                told_ns = round(video.get(cv2.CAP_PROP_POS_MSEC) * MS)
                if told_ns <= last_ns:
                    told_ns = last_ns + round(SECOND / self._rate_hz)
                last_ns = told_ns
                yield EPOCH_NS + told_ns, frame
        finally:
            video.release()

    def _last_ns(self) -> int:
        """Time of the last frame since the first one's clock began."""
        video, last_ns = self._open(), 0
        try:
            video.set(cv2.CAP_PROP_POS_FRAMES, max(0, self.count - round(2 * self._rate_hz)))
            while _read(video) is not None:
                last_ns = max(last_ns, round(video.get(cv2.CAP_PROP_POS_MSEC) * MS))
        finally:
            video.release()
        return last_ns or round(self.told_s * SECOND)

    def _open(self) -> cv2.VideoCapture:
        with _ffmpeg_alone():
            return cv2.VideoCapture(str(self._path.resolve()), cv2.CAP_FFMPEG)


@contextmanager
def _ffmpeg_alone() -> Iterator[None]:
    """While a video is opened, `_FFMPEG` holds, and OpenCV says nothing; then it is as before."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    before = {name: os.environ.get(name) for name in _FFMPEG}
    os.environ.update(_FFMPEG)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _read(video: cv2.VideoCapture) -> Any | None:
    """The next (H, W, 3) BGR frame; None: there is none, or it is broken."""
    try:
        there, frame = video.read()
    except cv2.error:
        return None
    return frame if there and frame is not None and frame.ndim == 3 else None


def _as_message(data: bytes) -> tuple[tuple[int, int] | None, str, bytes]:
    """(H, W) if it is known, format, and bytes of a picture as a message holds it.

    One that lies on its side, or of a format that messages do not have, is coded anew.
    """
    form = format_of(data[:16])
    try:
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # it is damaged: whoever decodes it says how
        return None, form or "unknown", data
    if form and not turned:
        return (height, width), form, data
    try:  # nobody else looks before it is unpacked
        if form:
            check_claim(np.frombuffer(data, np.uint8), form)
        elif width * height > (limit := most_pixels(len(data))):
            return None, f"{width}x{height} pixels, of which {limit} are allowed", data
    except Rejection:  # its decoder says it in its own words
        return None, form, data
    try:
        upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        upright = None
    if upright is None:
        return None, form or "unknown", data
    coded = cv2.imencode(".png", upright, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    return (upright.shape[0], upright.shape[1]), "png", coded


def _in_time_order(files: list[Path]) -> tuple[list[Path], list[int] | None]:
    """The files in order, and their times in nanoseconds, if each name holds one of its own."""
    times = [_time_ns(file.stem) for file in files]
    told = [(time_ns, file) for time_ns, file in zip(times, files, strict=True) if time_ns]
    if len({time_ns for time_ns, _ in told}) == len(files):
        told.sort()
        return [file for _, file in told], [time_ns for time_ns, _ in told]
    return sorted(files, key=_natural), None


def _time_ns(stem: str) -> int | None:
    """What a name ends in: nanoseconds (16 to 19 digits), or seconds with a fraction."""
    if found := re.search(r"(?<!\d)(\d{16,19})$", stem):
        return int(found[1])
    if found := re.search(r"(?<!\d)(\d{9,10})\.(\d{1,9})$", stem):
        return int(found[1]) * SECOND + int(found[2].ljust(9, "0"))
    return None


def _natural(file: Path) -> list[tuple[int, int, str]]:
    """A key by which frame2 comes before frame10."""
    parts = re.findall(r"(\d+)|(\D+)", file.name)
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts]


def _header(time_ns: int) -> Any:
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](time_ns // SECOND, time_ns % SECOND)
    return types["std_msgs/msg/Header"](stamp, FRAME_ID)


def _connection(number: int, kind: str, count: int) -> Connection:
    text, digest = typestore().generate_msgdef(kind)[0], typestore().hash_rihs01(kind)
    return Connection(
        id=number,
        topic=TOPICS[kind],
        msgtype=kind,
        msgdef=MessageDefinition(MessageDefinitionFormat.MSG, text),
        digest=digest,
        msgcount=count,
        ext=ConnectionExtRosbag2("cdr", []),
        owner=None,
    )
