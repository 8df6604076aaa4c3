"""Faults on schedule: `rgb:stuck@12s+5s` freezes the camera from 12 s to 17 s.

    TARGET:FAULT[(key=value,...)][@START[s][+DURATION[s]]]

A kill, `rgb@0.8+0.6`, is the fault `off` in fewer letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from robustseg_core import modalities
from robustseg_core.config import parse
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults import catalog
from robustseg_core.faults._base import FaultModel
from robustseg_core.faults.kills import WHEN, Kill, covers, when

ALL = "all"
"""The target that means every sensor."""

_FAULT = re.compile(rf"(?P<target>[^:@\s]+):(?P<name>\w+)(?:\((?P<options>[^()]*)\))?(?:{WHEN})?")


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault, what it is done to, and when: seconds from the start of the recording."""

    target: str
    """A modality, a topic, or `all`."""
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 0.0
    duration_s: float | None = None
    """None: until the end."""

    def covers(self, t_s: float) -> bool:
        """Whether the fault is on at `t_s`."""
        return covers(self.start_s, self.duration_s, t_s)

    def model(self) -> FaultModel:
        """The fault with its options.

        Raises:
            RobustsegError: unknown fault or option, or a value out of range.
        """
        kind = catalog.load(self.name)
        return parse(kind, self.options, where=f"{self.target}:{self.name}")

    def __str__(self) -> str:
        words = ",".join(f"{key}={value}" for key, value in self.options.items())
        options = f"({words})" if words else ""
        return f"{self.target}:{self.name}{options}{when(self.start_s, self.duration_s)}"


def parse_fault(text: str) -> FaultSpec:
    """`rgb:stuck@12s+5s`, `depth:holes(share=0.5)`, `/velodyne_points:off@3`, `all:offset@1`.

    Raises:
        RobustsegError: not of that form, or an unknown target, fault, option or value.
    """
    found = _FAULT.fullmatch(text.strip())
    if found is None:
        raise RobustsegError(
            f"fault {text!r} is not TARGET:FAULT(key=value)@START+DURATION in seconds; "
            "write e.g. rgb:stuck@12s+5s, or depth:holes(share=0.5) for all the time"
        )
    duration = float(found["duration"]) if found["duration"] else None
    if duration == 0:
        raise RobustsegError(
            f"fault {text!r} lasts 0 s; give a positive duration, or none for until the end"
        )
    options = dict(_option(word, text) for word in (found["options"] or "").split(",") if word)
    start_s = float(found["start"] or 0)
    spec = FaultSpec(found["target"], found["name"], options, start_s, duration)
    known = [ALL, *modalities.available()]
    if not spec.target.startswith("/") and spec.target not in known:
        raise RobustsegError(
            f"fault {text!r} is done to {spec.target!r}, which is no modality and no /topic; "
            f"{did_you_mean(spec.target, known)}"
        )
    check(spec, modality=spec.target if spec.target in known else None)
    return spec


def of_kill(kill: Kill) -> FaultSpec:
    """The fault that a kill is."""
    return FaultSpec(kill.target, "off", {}, kill.start_s, kill.duration_s)


def check(spec: FaultSpec, *, modality: str | None) -> FaultModel:
    """The fault of `spec`, if it can be done to this modality (None: not known yet).

    Raises:
        RobustsegError: it cannot; or unknown fault or option, or a value out of range.
    """
    fault = spec.model()
    if modality is not None and fault.modalities and modality not in fault.modalities:
        others = ", ".join(catalog.available(modality))
        raise RobustsegError(
            f"{spec.name} cannot be done to {modality}, only to {', '.join(fault.modalities)}; "
            f"have {others}"
        )
    return fault


def _option(word: str, text: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in word.partition("="))
    if not (key and equals and value):
        raise RobustsegError(f"{word!r} in fault {text!r} is no option; write key=value")
    return key, value
