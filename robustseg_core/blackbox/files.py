"""Fault files: written by a thread of their own into a folder that keeps an account of them.

    FOLDER/fault_20260131T120000Z_rgb_silent.mcap
    FOLDER/fault_20260131T120000Z_front_lidar.top_stuck.mcap     of the view `front` of several
    FOLDER/black_box.json      the files that we wrote, each with its size and time
    FOLDER/.part-NAME/         what is being written

A file is there whole or not at all. Only what the account lists, unchanged, is ever replaced, and
only where the configuration says so.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shutil
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robustseg_core.bag.typestore import typestore
from robustseg_core.bag.writer import BagWriter
from robustseg_core.blackbox.account import of_finding, text
from robustseg_core.blackbox.layout import (
    ACTS,
    BATCH,
    BYTES,
    DECISIONS,
    HEAD,
    STATE,
    STATES,
    TEXT,
    VERSION,
    Carried,
    Rows,
    Serialize,
    serialized,
)
from robustseg_core.blackbox.ring import MEGABYTE, Ring, Strike, Window
from robustseg_core.config import BlackBoxConfig
from robustseg_core.errors import RobustsegError
from robustseg_core.segmenter import Segmenter
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.output_folder import replacing
from robustseg_core.types import SECOND, ModelSpec
from robustseg_core.version import __version__

log = logging.getLogger(__name__)

ACCOUNT = "black_box.json"
_PART = ".part-"
JOIN_S = 8.0
"""Whoever stops waits no longer for the last file."""
_HEAD_ROOM = 1.05
"""A file is no larger than what it holds in memory, times this."""


class FullError(RobustsegError):
    """There is no room for one more file, by the configuration."""


class Shelf:
    """The folder of the files.

    Args:
        folder: made when the first file is written.
        config: how many files, how large all together, and whether the oldest may be replaced.
    """

    def __init__(self, folder: Path, config: BlackBoxConfig) -> None:
        self.folder = folder
        self._config = config

    def files(self) -> list[dict[str, Any]]:
        """What the account lists and is there unchanged, the oldest first.

        Raises:
            RobustsegError: the account is damaged.
        """
        path = self.folder / ACCOUNT
        try:
            listed = read_json(path)["files"]
            return [one for one in listed if self._unchanged(one)]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise RobustsegError(
                f"{path} is damaged, so nothing says which files the black box wrote; move it "
                "away, or give another black_box.folder"
            ) from None

    def unfinished(self) -> list[Path]:
        """What lies there of files that a process did not finish."""
        try:
            return sorted(self.folder.glob(f"{_PART}*"))
        except OSError:
            return []

    @contextmanager
    def room(self, nbytes: int, name: str) -> Iterator[Path]:
        """A path to write a file of so many bytes to; it takes its name at the end.

        Raises:
            FullError: there is no room by the configuration.
            RobustsegError: the account is damaged.
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{ACCOUNT}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            files = self._with_room(nbytes)
            part = self.folder / f"{_PART}{name}"
            number = 1
            while part.exists() or (self.folder / f"{part.name[len(_PART) :]}.mcap").exists():
                number += 1
                part = self.folder / f"{_PART}{name}-{number}"
            try:
                yield part
                made = next(part.glob("*.mcap"))
                with made.open("rb") as file:
                    os.fsync(file.fileno())
                target = self.folder / f"{part.name[len(_PART) :]}.mcap"
                status = made.stat()
                entry = {
                    "name": target.name,
                    "bytes": status.st_size,
                    "mtime_ns": status.st_mtime_ns,
                }
                self._write([*files, entry])  # whichever a killed process leaves, it is ours
                made.replace(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def _with_room(self, nbytes: int) -> list[dict[str, Any]]:
        """The files that stay."""
        config, files = self._config, self.files()
        left = config.total_mb * MEGABYTE - nbytes - sum(map(_size, self.unfinished()))
        total = sum(one["bytes"] for one in files)
        while files and (len(files) >= config.files or total > left):
            if not config.replace:
                break
            oldest = files.pop(0)
            (self.folder / oldest["name"]).unlink(missing_ok=True)
            total -= oldest["bytes"]
            self._write(files)
        if len(files) >= config.files or total > left:
            raise FullError(
                f"{self.folder} holds {len(files)} files of {total / MEGABYTE:.0f} MB, limit "
                f"{config.files} and {config.total_mb:g} MB, and the next has up to "
                f"{nbytes / MEGABYTE:.0f} MB; move some away, raise black_box.files or "
                "black_box.total_mb, or set black_box.replace"
            )
        return files

    def _unchanged(self, one: dict[str, Any]) -> bool:
        name = str(one["name"])
        if Path(name).name != name:
            raise ValueError(name)
        try:
            status = (self.folder / name).lstat()
        except OSError:
            return False
        return [status.st_size, status.st_mtime_ns] == [int(one["bytes"]), int(one["mtime_ns"])]

    def _write(self, files: list[dict[str, Any]]) -> None:
        with replacing(self.folder / ACCOUNT) as path:
            path.write_text(json.dumps({"version": VERSION, "files": files}, indent=1) + "\n")


def _size(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            found += path.lstat().st_size
    return found


class BlackBox:
    """A ring, and the thread that writes its windows.

    Args:
        gate: the segmenter that is watched, until `close`; of several cameras, each has a box of
            its own.
        config: as of the robot; `folder` says where.
        serialize: (type, CDR) of a message that came neither serialized nor from rosbags.
        now_ns: the gate's clock, ...
        offset_ns: ... and what has to be added to it for the time of day; 0 in a replay.
        made: what the files say of who wrote them beside versions.
    """

    def __init__(
        self,
        gate: Segmenter,
        config: BlackBoxConfig,
        *,
        serialize: Serialize = serialized,
        now_ns: int = 0,
        offset_ns: int = 0,
        made: str = "",
    ) -> None:
        self._config, self._spec, self._camera = config, gate.spec, gate.camera
        self.shelf = Shelf(Path(config.folder).expanduser(), config)
        self._serialize, self._offset_ns, self._made = serialize, offset_ns, made
        self._waiting: deque[Window] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._told = 0
        self.written: list[Path] = []
        """Files, of this box."""
        self.lost = 0
        """Windows of which there is no file, ..."""
        self.trouble = ""
        """... and why the newest was lost."""
        self._full = False
        if left := self.shelf.unfinished():
            log.warning("%s: %d unfinished files of a process that was killed", left[0], len(left))
        self.ring = Ring(gate, config, self._take, lambda: self._held, now_ns=now_ns)

    def remarks(self) -> list[str]:
        """What there is to be found, a sentence each."""
        told = []
        if self.written:
            told.append(
                f"black box: {len(self.written)} files in {self.shelf.folder}, the newest "
                f"{self.written[-1].name}; `robustseg explain` shows it"
            )
        if self.ring.quiet:
            told.append(
                f"black box: {self.ring.quiet} faults were as one shortly before, and made no file "
                "of their own (black_box.again_s)"
            )
        return told

    def news(self) -> list[Path]:
        """The files that were written since the last call."""
        told, self._told = self._told, len(self.written)
        return self.written[told : self._told]

    def complaints(self) -> list[str]:
        """What is missing, a sentence each."""
        told = [self.ring.trouble] if self.ring.trouble else []
        if self.lost:
            told.append(f"black box: {self.lost} faults have no file: {self.trouble}")
        return told

    def close(self) -> None:
        """Write what is open and waits, and stop."""
        close_all([self])

    def _stop(self) -> None:
        self.ring.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, window: Window) -> bool:
        """Called by the ring; waits for nobody."""
        with self._changed:
            if self._full and not self._config.replace:
                self.lost += 1
                return False
            if self._held + window.nbytes > self._config.memory_mb * MEGABYTE:
                self._lose("the disk is too slow, or black_box.memory_mb too small")
                return False
            self._waiting.append(window)
            self._held += window.nbytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="black box", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return True

    def _lose(self, why: str) -> None:
        self.lost += 1
        if why != self.trouble:
            log.warning("black box: %s", why)
        self.trouble = why

    def _work(self) -> None:
        """The thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                window = self._waiting[0]
            path, why, full = None, "", False
            try:
                path = self._write(window)
            except FullError as error:
                why, full = str(error), True
            except OSError as error:
                why = f"cannot write {self.shelf.folder}: {error.strerror}; make room, or choose "
                why += "another black_box.folder"
            except RobustsegError as error:
                why = str(error)
            except Exception as error:  # masks go on, and so does the next file
                log.exception("writing a fault's file failed")
                why = f"{type(error).__name__}: {error}"
            with self._changed:
                self._waiting.popleft()
                self._held -= window.nbytes
                self._full = full
                if path is None:
                    self._lose(why)
                else:
                    self.written.append(path)
                    log.info("black box: %s", path)
            del window

    def _write(self, window: Window) -> Path:
        name = _name(window.strikes[0], self._offset_ns, self._camera)
        with self.shelf.room(round(_HEAD_ROOM * window.nbytes), name) as part:
            write(
                part,
                window,
                self._spec,
                serialize=self._serialize,
                offset_ns=self._offset_ns,
                made=self._made,
                camera=self._camera,
            )
        return self.shelf.folder / f"{part.name[len(_PART) :]}.mcap"


def close_all(boxes: Collection[BlackBox]) -> None:
    """Write what is open and waits in any of them, and stop; for all together no longer than one.

    Args:
        boxes: of the cameras of a robot; they may share a folder.
    """
    for box in boxes:
        box._stop()
    end_s = time.monotonic() + JOIN_S
    for box in boxes:
        if box._thread is not None:
            box._thread.join(max(0.0, end_s - time.monotonic()))


def _name(strike: Strike, offset_ns: int, camera: str) -> str:
    at = datetime.fromtimestamp((strike.at_ns + offset_ns) // SECOND, timezone.utc)
    what = strike.finding.fault.value if strike.finding else strike.state.value.lower()
    whose = f"{camera}_{strike.modality}" if camera else strike.modality
    return f"fault_{at:%Y%m%dT%H%M%SZ}_{whose}_{what}"


def versions() -> dict[str, str]:
    """Of what makes the numbers."""
    return {
        "robustseg": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "machine": platform.machine(),
    }


def write(
    folder: Path,
    window: Window,
    spec: ModelSpec,
    *,
    serialize: Serialize = serialized,
    offset_ns: int = 0,
    made: str = "",
    camera: str = "",
) -> None:
    """A rosbag2 folder with one MCAP of a window.

    Args:
        folder: does not exist.
        window: what is written.
        spec: the network's.
        serialize, offset_ns, made: as of `BlackBox`.
        camera: as of `Segmenter`.

    Raises:
        RobustsegError: a message that has no serialized form.
        OSError: the disk is full, ...
    """
    first, types = window.chunks[0], typestore().types
    head = {
        "version": VERSION,
        **versions(),
        "made": made,
        "camera": camera,
        "offset_ns": offset_ns,
        "begins_ns": first.start_ns,
        "cut": window.cut,
        "faults": [
            {
                "at_ns": strike.at_ns,
                "modality": strike.modality,
                "state": strike.state.value,
                "finding": None if strike.finding is None else of_finding(strike.finding),
            }
            for strike in window.strikes
        ],
        "config": first.config.model_dump(mode="json"),
        "spec": spec.model_copy(update={"references": {}}).model_dump(mode="json"),
    }
    now_ns = first.start_ns + offset_ns
    acts: list[Any] = []
    with BagWriter(folder) as bag:

        def tell(topic: str, tree: Any, *, latched: bool = False) -> None:
            bag.write(topic, TEXT, types[TEXT](data=text(tree)), now_ns, latched=latched)

        tell(HEAD, head, latched=True)
        bag.write(STATE, BYTES, _bytes(first.state.to_bytes()), now_ns, latched=True)
        maker = Rows(first.config, serialize)

        def carry(carried: Carried | None) -> None:
            if carried is not None:
                topic, msgtype, raw, latched = carried
                bag.write_raw(topic, msgtype, raw, now_ns, latched=latched)

        for entry in first.standing:
            carry(maker.of(entry)[1])
        for entry in window.entries():
            row, carried = maker.of(entry)
            now_ns = max(now_ns, entry.now_ns + offset_ns)  # in a file, order is time
            carry(carried)
            acts.append(row)
            if row[0] == "end":
                if (decision := row[3].get("decision")) is not None:
                    tell(DECISIONS, {"step_ns": entry.now_ns, **decision})
                if (states := row[3].get("states")) is not None:
                    tell(STATES, {"at_ns": entry.now_ns, "sensors": states})
                if len(acts) >= BATCH:
                    tell(ACTS, acts)
                    acts = []
        tell(ACTS, acts)


def _bytes(raw: bytes) -> Any:
    types = typestore().types
    layout = types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return types[BYTES](layout=layout, data=np.frombuffer(raw, np.uint8))
