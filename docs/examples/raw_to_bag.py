"""A RAW recording of Prophesee's software (EVT 2.0, 2.1 or 3.0) as a bag of EventPackets.

    python docs/examples/raw_to_bag.py recording.raw drive
    robustseg run drive

The words are passed on as they are, 64 KiB a packet; its stamp is when its first event happened,
counted from the time at which the file says that it was recorded. Needs no ROS and no SDK.
"""

from __future__ import annotations

import argparse
import calendar
import re
import time
from pathlib import Path

import numpy as np

from robustseg_core.bag import BagWriter
from robustseg_core.bag.typestore import EVENT_PACKET, typestore
from robustseg_core.codecs import events
from robustseg_core.errors import RobustsegError
from robustseg_core.types import SECOND

PACKET = 1 << 16


def read(path: Path) -> tuple[dict[str, str], bytes]:
    """(what the lines of text in front say, the words)."""
    data, lines = path.read_bytes(), {}
    while data.startswith(b"%"):
        line, _, data = data.partition(b"\n")
        key, _, value = line[1:].decode("latin-1").strip().partition(" ")
        lines[key.lower()] = value.strip()
        if key == "end":
            break
    return lines, data


def encoding_of(lines: dict[str, str]) -> str:
    """As an EventPacket calls it."""
    form = lines.get("format", "").partition(";")[0] or f"EVT{lines.get('evt', '').strip('0.')}"
    return form.lower().replace(".", "")


def size_of(lines: dict[str, str], told: str) -> tuple[int, int]:
    """(width, height) of the sensor.

    Raises:
        RobustsegError: neither the file nor the caller says.
    """
    form = dict(re.findall(r"(width|height)=(\d+)", lines.get("format", "")))
    text = told or lines.get("geometry") or f"{form.get('width')}x{form.get('height')}"
    if not (found := re.fullmatch(r"(\d+)x(\d+)", text)):
        raise RobustsegError("the file does not say how large the sensor is; give --size 640x480")
    return int(found[1]), int(found[2])


def convert(source: Path, target: Path, topic: str, size: str) -> int:
    """Write the bag; how many events are in it."""
    lines, data = read(source)
    encoding, (width, height) = encoding_of(lines), size_of(lines, size)
    decoder = events.load(encoding)(width, height)
    date = lines.get("date", "2000-01-01 00:00:00")
    start_ns = calendar.timegm(time.strptime(date, "%Y-%m-%d %H:%M:%S")) * SECOND
    stamp_ns, first_us, count, types = start_ns, None, 0, typestore().types
    with BagWriter(target) as writer:
        for seq, at in enumerate(range(0, len(data), PACKET)):
            words = data[at : at + PACKET]
            found = decoder.decode(words)
            if len(found.t):
                first_us = int(found.t[0]) if first_us is None else first_us
                stamp_ns = start_ns + (int(found.t[0]) - first_us) * 1000
                count += len(found.t)
            stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, SECOND))
            message = types[EVENT_PACKET](
                header=types["std_msgs/msg/Header"](stamp=stamp, frame_id="event_camera"),
                height=height,
                width=width,
                seq=seq,
                time_base=0,
                encoding=encoding,
                is_bigendian=False,
                events=np.frombuffer(words, np.uint8),
            )
            writer.write(topic, EVENT_PACKET, message, stamp_ns)
    return count


def main() -> None:
    """Convert, and say what became of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("bag", type=Path, help="folder to be made")
    parser.add_argument("--topic", default="/event_camera/events")
    parser.add_argument("--size", default="", help="WIDTHxHEIGHT, where the file does not say")
    options = parser.parse_args()
    try:
        count = convert(options.raw, options.bag, options.topic, options.size)
    except (OSError, RobustsegError) as error:
        raise SystemExit(f"raw_to_bag: {error}") from None
    print(f"{count} events in {options.bag}")


if __name__ == "__main__":
    main()
