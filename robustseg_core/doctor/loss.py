"""How many messages got lost on the way from a driver to us, and the line that cures it.

Counted by the numbers that the middleware gives each publication (Fast DDS and Zenoh do; Cyclone
DDS does not), or else by gaps in the header stamps of a sensor that keeps its rate. Between the
first and the last message that was heard only: of what nobody heard anything, nobody knows.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robustseg_core.codecs.fields import as_bytes, stamp_of
from robustseg_core.robot.transports import ROOMY, VARIABLE
from robustseg_core.types import Rejection

FAST_DDS, CYCLONE, ZENOH = "rmw_fastrtps_cpp", "rmw_cyclonedds_cpp", "rmw_zenoh_cpp"
WARNED, FEWEST = 0.02, 3
"""Share of the messages, and how many, that are worth a word; a sensor drops one now and then."""
RUINOUS = 0.5
"""Share from which on a sensor is hardly there."""
REORDERED = 100
"""A number that goes back by more is no late message: its publisher began anew."""
_STAMPS, _REGULAR, _OFF = 10, 0.9, 0.25
"""Gaps of stamps are counted with so many stamps, if of the pauses between them this share lies no
farther than this from a multiple of the shortest usual one."""

KERNEL: Mapping[str, int] = {
    "net.core.rmem_max": 2_147_483_647,
    "net.ipv4.ipfrag_time": 3,
    "net.ipv4.ipfrag_high_thresh": 134_217_728,
}
"""What ROS 2's page on DDS tuning advises for large messages over UDP."""


@dataclass(slots=True)
class Reception:
    """What was told beside the messages of one stream, while one subscription lasted or several."""

    runs: list[dict[bytes, array[int]]] = field(default_factory=lambda: [{}])
    """Of each subscription: publisher -> its publications' numbers, as they came."""
    stamps_ns: list[array[int]] = field(default_factory=lambda: [array("q")])
    """Of each subscription."""
    size: int = 0
    """Bytes of the largest payload that came."""
    overflows: int = 0
    """How often our own queue was full when we came to look."""

    def begin(self) -> None:
        """Subscribed anew: what was sent meanwhile is not lost."""
        self.runs.append({})
        self.stamps_ns.append(array("q"))

    def heard(self, message: Any, info: Mapping[str, Any]) -> None:
        """A message came, with what the middleware says of it (rclpy's `MessageInfo`)."""
        number = info.get("publication_sequence_number")
        if number is not None:
            gid = info.get("publisher_gid")
            whose = bytes(gid.get("data") or b"") if isinstance(gid, Mapping) else b""
            self.runs[-1].setdefault(whose, array("q")).append(number)
        with suppress(Rejection):  # without a header
            self.stamps_ns[-1].append(stamp_of(message))
        self.size = max(self.size, payload_bytes(message))


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of the messages of a stream."""

    heard: int
    lost: int
    by: str
    """What was counted."""

    @property
    def share(self) -> float:
        """Of what was sent, how much is lost."""
        sent = self.heard + self.lost
        return self.lost / sent if sent else 0.0


def loss_of(reception: Reception) -> Loss | None:
    """What got lost; None: nothing tells, or too little came."""
    lists = [numbers for run in reception.runs for numbers in run.values()]
    if lists:
        heard = sum(map(len, lists))
        return Loss(heard, sum(map(lost_numbers, lists)), "publication numbers")
    counted = [(len(run), lost_stamps(run)) for run in reception.stamps_ns if len(run)]
    known = [(heard, lost) for heard, lost in counted if lost is not None]
    if not known:
        return None
    return Loss(sum(h for h, _ in known), sum(lost for _, lost in known), "gaps of the stamps")


def lost_numbers(numbers: Sequence[int]) -> int:
    """How many are missing among the numbers of one publisher, as they came."""
    if not len(numbers):
        return 0
    lost, run = 0, {numbers[0]}
    highest = numbers[0]
    for number in numbers[1:]:
        if highest - number > REORDERED:
            lost += _missing(run)
            run, highest = set(), number
        run.add(number)
        highest = max(highest, number)
    return lost + _missing(run)


def _missing(run: set[int]) -> int:
    return max(run) - min(run) + 1 - len(run)


def lost_stamps(stamps_ns: Sequence[int]) -> int | None:
    """How many are missing among the stamps of a sensor, ns; None: it keeps no rate."""
    stamps = np.unique(np.asarray(stamps_ns, np.int64))
    if len(stamps) < _STAMPS:
        return None
    pauses = np.diff(stamps).astype(np.float64)
    shortest = np.quantile(pauses, 0.1)
    period = np.median(pauses[pauses <= 1.5 * shortest])
    multiples = pauses / period
    whole = np.rint(multiples)
    if np.mean((whole >= 1) & (np.abs(multiples - whole) < _OFF)) < _REGULAR:
        return None
    return int(np.maximum(whole - 1, 0).sum())


def payload_bytes(message: Any) -> int:
    """Bytes of what makes a message large; 0: nothing does."""
    for name in ("raw", "data", "events"):
        try:
            return len(as_bytes(getattr(message, name, None)))
        except Rejection:
            continue
    return 0


@dataclass(frozen=True, slots=True)
class Wire:
    """How messages come to a robot's doctor."""

    middleware: str
    """What rclpy says that it uses."""
    receptions: Mapping[str, Reception]
    """By stream."""
    kernel: Mapping[str, int] = field(default_factory=dict)
    """The kernel's limits, as `kernel_limits` reads them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the shell."""

    def cure(self) -> str:
        """The line that mends the loss of messages.

        It does not ask for their size: the largest are those that nobody heard.
        """
        known = {FAST_DDS: self._fast_dds, CYCLONE: self._cyclone, ZENOH: self._zenoh}
        if cure := known.get(self.middleware):
            return cure()
        return f"enlarge {self.middleware}'s buffers, and let the driver's queue be deeper"

    def _fast_dds(self) -> str:
        line = f"export {VARIABLE}='{ROOMY}' where its driver starts"
        udp = self._sysctl()
        return f"{line}; if that is another computer, {udp}" if udp else line

    def _cyclone(self) -> str:
        uri = (
            "<CycloneDDS><Domain><Internal><SocketReceiveBufferSize "
            'min="10MB"/></Internal></Domain></CycloneDDS>'
        )
        told = "SocketReceiveBufferSize" in self.environment.get("CYCLONEDDS_URI", "")
        line = "" if told else f"export CYCLONEDDS_URI='{uri}' wherever nodes start"
        parts = [part for part in (self._sysctl(), line) if part]
        return ", then ".join(parts) or "give the driver's publisher a deeper queue"

    def _zenoh(self) -> str:
        """rmw_zenoh drops what its link does not take within 50 ms (its issues 543 and 696)."""
        drop = "transport/link/tx/queue/congestion_control/drop"
        words = [f"{drop}/wait_before_drop=50000", f"{drop}/max_wait_before_drop_fragments=1000000"]
        words.append("transport/shared_memory/enabled=true")
        before = self.environment.get("ZENOH_CONFIG_OVERRIDE", "")
        kept = [word for word in before.split(";") if word.strip()]
        have = {word.partition("=")[0].strip() for word in kept}
        words = [*kept, *(word for word in words if word.partition("=")[0] not in have)]
        return (
            f"export ZENOH_CONFIG_OVERRIDE='{';'.join(words)}' where its driver and the router "
            "(rmw_zenohd) start"
        )

    def _sysctl(self) -> str:
        """The command that raises what is too low; empty: nothing is."""
        low = [
            f"{name}={KERNEL[name]}"
            for name in KERNEL
            if name in self.kernel and not _enough(name, self.kernel[name])
        ]
        return f"sudo sysctl -w {' '.join(low)}" if low else ""


def _enough(name: str, value: int) -> bool:
    """Whether a limit helps large messages as it is; a time is the better the shorter it is."""
    return value <= KERNEL[name] if name.endswith("_time") else value >= KERNEL[name]


def kernel_limits(root: Path = Path("/proc/sys")) -> dict[str, int]:
    """The limits of `KERNEL` that this computer tells."""
    found = {}
    for name in KERNEL:
        try:
            found[name] = int((root / name.replace(".", "/")).read_text())
        except (OSError, ValueError):
            continue
    return found
