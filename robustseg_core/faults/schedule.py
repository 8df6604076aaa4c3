"""Faults on schedule: `rgb:stuck@12s+5s` freezes the camera from 12 s to 17 s.

    TARGET:FAULT[(key=value,...)][@START[s][+DURATION[s]]]

A kill, `rgb@0.8+0.6`, is the fault `off` in fewer letters: it takes the camera away from 0.8 s to
1.4 s. Player, demo and command line share these words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from robustseg_core import modalities
from robustseg_core.config import parse
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults import catalog
from robustseg_core.faults._base import FaultModel
from robustseg_core.types import kind_of

ALL = "all"
"""The target that means every sensor."""

_OFF = "off"
_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\."
_WHEN = rf"@(?P<start>{_NUMBER})s?(?:\+(?P<duration>{_NUMBER})s?)?"
_FAULT = re.compile(rf"(?P<target>[^:@\s]+):(?P<name>\w+)(?:\((?P<options>[^()]*)\))?(?:{_WHEN})?")
_KILL = re.compile(rf"(?P<target>[^@\s]+){_WHEN}")


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
        """Whether the fault is on at `t_s`: from the start (included) to the end (excluded)."""
        end_s = math.inf if self.duration_s is None else self.start_s + self.duration_s
        return self.start_s <= t_s < end_s

    @property
    def kill(self) -> str:
        """What `parse_kill` reads as this fault; empty: it is not `off`."""
        return f"{self.target}{self._when}" if self.name == _OFF else ""

    @property
    def _when(self) -> str:
        duration = "" if self.duration_s is None else f"+{self.duration_s:g}"
        return f"@{self.start_s:g}{duration}"

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
        return f"{self.target}:{self.name}{options}{self._when}"


def parse_fault(text: str) -> FaultSpec:
    """`rgb:stuck@12s+5s`, `depth:holes(share=0.5)`, `/velodyne_points:off@3`, `all:offset@1`.

    Raises:
        RobustsegError: not of that form, or an unknown target, fault, option or value.
    """
    spec = read_fault(text)
    _check_target(spec.target, "fault", text)
    check(spec, modality=None if spec.target.startswith("/") else kind_of(spec.target))
    return spec


def read_fault(text: str) -> FaultSpec:
    """The same by its form alone: whether target, fault and options exist is not asked.

    Raises:
        RobustsegError: not of that form, or a duration that is not positive.
    """
    found = _FAULT.fullmatch(text.strip())
    if found is None:
        raise RobustsegError(
            f"fault {text!r} is not TARGET:FAULT(key=value)@START+DURATION in seconds; "
            "write e.g. rgb:stuck@12s+5s, or depth:holes(share=0.5) for all the time"
        )
    options = dict(_option(word, text) for word in (found["options"] or "").split(",") if word)
    return _spec(found, "fault", text, found["name"], options)


def parse_kill(text: str) -> FaultSpec:
    """`MODALITY@START+DURATION` or `MODALITY@START`: the fault `off` then; also of a `/topic`.

    Raises:
        RobustsegError: not of that form, a duration that is not positive, or an unknown target.
    """
    found = _KILL.fullmatch(text.strip())
    if found is None:
        raise RobustsegError(
            f"kill {text!r} is not MODALITY@START+DURATION in seconds; "
            "write e.g. rgb@0.8+0.6, or rgb@0.8 for until the end"
        )
    spec = _spec(found, "kill", text, _OFF, {})
    _check_target(spec.target, "kill", text)
    return spec


def _spec(
    found: re.Match[str], what: str, text: str, name: str, options: Mapping[str, str]
) -> FaultSpec:
    """The fault called `name`, with target and time as `text`, a fault or a kill, says them."""
    duration = float(found["duration"]) if found["duration"] else None
    if duration == 0:
        raise RobustsegError(
            f"{what} {text!r} lasts 0 s; give a positive duration, or none for until the end"
        )
    return FaultSpec(found["target"], name, options, float(found["start"] or 0), duration)


def _check_target(target: str, what: str, text: str) -> None:
    known = [ALL, *modalities.available()]
    if not target.startswith("/") and kind_of(target) not in known:
        raise RobustsegError(
            f"{what} {text!r} is done to {target!r}, which is no modality and no /topic; "
            f"{did_you_mean(target, known)}"
        )


def check(spec: FaultSpec, *, modality: str | None) -> FaultModel:
    """The fault of `spec`, if it can be done to this modality (None: not known yet).

    Raises:
        RobustsegError: it cannot; or unknown fault or option, or a value out of range.
    """
    fault = spec.model()
    if modality is not None and not fault.reaches(modality):
        raise RobustsegError(
            f"{spec.name} cannot be done to {modality}, only to "
            f"{', '.join(catalog.reached(spec.name))}; `robustseg list` says what reaches whom"
        )
    return fault


def _option(word: str, text: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in word.partition("="))
    if not (key and equals and value):
        raise RobustsegError(f"{word!r} in fault {text!r} is no option; write key=value")
    return key, value
