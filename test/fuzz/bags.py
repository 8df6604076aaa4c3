"""Recordings cut off, flipped and lied to: what is left is read, and what is not is said.

Every damaged file is surveyed, read and replayed through a segmenter. Promises: `RobustsegError` or
a reading; a notice whenever messages are missing; no more steps than the sound file takes, twice;
bounded memory; nothing else raised.
"""

from __future__ import annotations

import struct
import tempfile
import traceback
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from fuzz.mutate import LENGTHS, Random
from fuzz.robot import Complaint, Watch, memory_mb
from fuzz.scenery import arrivals
from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import typestore
from robustseg_core.errors import RobustsegError
from robustseg_core.recording.replay import replay
from robustseg_core.recording.survey import survey
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import Rejection
from support import drives
from support.makers import camera_info, transform

SUFFIXES = {"mcap": ".mcap", "zstd": ".mcap", "db3": ".db3"}
SECONDS = 0.6
LARGEST_MB = 64
"""More than this no damaged file of half a megabyte may cost."""


@cache
def sound() -> dict[str, bytes]:
    """Form -> the content of an undamaged recording: MCAP, MCAP with zstd chunks, SQLite."""
    with tempfile.TemporaryDirectory(prefix="robustseg-fuzz-") as name:
        folder = Path(name)
        plain = _record(folder / "plain")
        with Bag(plain) as bag, BagWriter(folder / "packed", compress=True) as packed:
            for one in bag.messages():
                packed.write_raw(one.topic, one.type, one.raw, one.time_ns)
        with (
            Bag(plain) as bag,
            Writer(folder / "rows", version=8, storage_plugin=StoragePlugin.SQLITE3) as rows,
        ):
            known: dict[str, Any] = {}
            for one in bag.messages():
                if one.topic not in known:
                    known[one.topic] = rows.add_connection(
                        one.topic, one.type, typestore=typestore()
                    )
                rows.write(known[one.topic], one.time_ns, one.raw)
        files = {"mcap": plain, "zstd": folder / "packed", "db3": folder / "rows"}
        return {
            form: next(p for p in at.iterdir() if p.suffix == SUFFIXES[form]).read_bytes()
            for form, at in files.items()
        }


def _record(folder: Path) -> Path:
    with BagWriter(folder) as writer:
        tf = transform("camera", "lidar", quaternion=drives.OPTICAL)
        writer.write("/tf_static", tf.__msgtype__, tf, drives.EPOCH, latched=True)
        info = camera_info(48, 64, fx=60.0)
        writer.write("/camera_info", info.__msgtype__, info, drives.EPOCH)
        for at_ns, name, message in arrivals(SECONDS):
            topic, msgtype = drives.TOPICS[name], message.__msgtype__
            writer.write(topic, msgtype, message, drives.EPOCH + at_ns)
    return folder


@cache
def whole() -> int:
    """How many messages the sound files have."""
    return 2 + sum(1 for _ in arrivals(SECONDS))


def damaged_file(content: bytes, random: Random, *, cut: bool) -> tuple[str, bytes]:
    """(what was done, the file after it): cut anywhere, or damaged in one of five ways."""
    if cut:
        return "cut", content[: int(random.integers(0, len(content)))]
    out = bytearray(content)
    how = ("flips", "lie", "zeros", "noise", "repeat")[int(random.integers(5))]
    at = int(random.integers(0, len(out) - 8))
    size = int(random.integers(1, 5000))
    if how == "flips":
        for spot in random.integers(0, len(out), int(random.integers(1, 40))):
            out[spot] ^= 1 << int(random.integers(8))
    elif how == "lie":
        form = ("<I", ">I", "<Q", ">H")[int(random.integers(4))]
        value = LENGTHS[int(random.integers(len(LENGTHS)))]
        raw = struct.pack(form, value & 0xFFFF if form == ">H" else value)
        if random.random() < 0.5:
            at = int(random.integers(0, 4096))  # where headers, definitions and first pages are
        out[at : at + len(raw)] = raw
    elif how == "zeros":
        out[at : at + size] = bytes(len(out[at : at + size]))
    elif how == "noise":
        out[at : at + size] = random.integers(0, 256, len(out[at : at + size]), np.uint8).tobytes()
    else:
        out[at:at] = out[at : at + size]
    return how, bytes(out)


def examine(path: Path, *, cut: bool) -> tuple[str, float]:
    """(what became of the file, by how many MB the process's peak of memory rose meanwhile).

    A file that was `cut` must say so even where no message is missing.

    Raises:
        Complaint: messages are missing and nothing says so; or reading does not end in time.
        Exception: whatever the reader let through.
    """
    before_mb = memory_mb("VmHWM")
    try:
        with Bag(path) as bag:
            outcome = _read(bag, cut=cut)
        _replay(path)
    except RobustsegError:
        outcome = "refused"
    used_mb = memory_mb("VmHWM") - before_mb
    if used_mb > LARGEST_MB:
        raise Complaint(f"reading took {used_mb:.0f} MB, limit {LARGEST_MB}")
    return outcome, used_mb


def _read(bag: Bag, *, cut: bool) -> str:
    survey(bag)
    count = rejected = 0
    for recorded in bag.messages():
        count += 1
        recorded.header()
        try:
            recorded.message()
        except Rejection:
            rejected += 1
        if count > 2 * whole():
            raise Complaint(f"{count} messages are more than twice {whole()}")
    if (cut or count < whole()) and not bag.notices:
        raise Complaint(f"{count} of {whole()} messages are left, and no notice says so")
    outcome = "whole" if count >= whole() else "none" if not count else "partly"
    return f"{outcome}{', some payloads rejected' if rejected else ''}"


def _replay(path: Path) -> None:
    spec = drives.engine().spec
    made = Segmenter(drives.robot(), spec, Watch(len(spec.classes)))
    with Bag(path) as bag:
        masks = sum(1 for _ in replay(bag, made))
    if masks > 40 * 60:
        raise Complaint(f"{masks} masks of {SECONDS} s")


def fuzz_bags(count: int, seed: int) -> dict[str, Any]:
    """`count` cuts and `count` other damages of each form; a summary that JSON can hold."""
    outcomes: dict[str, Counter[str]] = {}
    crashes: list[dict[str, Any]] = []
    peak_mb = 0.0
    with tempfile.TemporaryDirectory(prefix="robustseg-fuzz-") as folder:
        for index, (form, content) in enumerate(sound().items()):
            for number in range(2 * count):
                random = np.random.default_rng([seed, index, number])
                how, data = damaged_file(content, random, cut=number < count)
                path = Path(folder) / f"drive{SUFFIXES[form]}"
                path.write_bytes(data)
                try:
                    outcome, used_mb = examine(path, cut=how == "cut")
                    peak_mb = max(peak_mb, used_mb)
                except Exception as error:
                    outcome = "crashed"
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    crashes.append(
                        {
                            "file": f"{form} {number}",
                            "how": how,
                            "error": f"{type(error).__name__}: {str(error)[:300]}",
                            "at": f"{Path(last.filename).name}:{last.lineno}",
                        }
                    )
                outcomes.setdefault(f"{form}, {how}", Counter())[outcome] += 1
    return {
        "files": 2 * count * len(sound()),
        "seed": seed,
        "crashes": len(crashes),
        "largest_rise_mb": round(peak_mb, 1),
        "crashed": crashes[:20],
        "kinds": {name: dict(c.most_common()) for name, c in sorted(outcomes.items())},
    }
