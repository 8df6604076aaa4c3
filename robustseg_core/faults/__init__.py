"""Faults on purpose: one vocabulary with `types.Fault`, applied to messages, seeded, on schedule.

    rgb:stuck@12s+5s -> FaultSpec -> Injector -> the messages of a broken robot

The same injector serves bags (`robustseg_core.recording.inject`), replays, training and the live
node. A new fault is a class in a file of `kinds/`: everybody finds it by itself.
"""

from robustseg_core.faults._base import FaultModel, FaultState, Sample
from robustseg_core.faults.catalog import available, describe, load, reached
from robustseg_core.faults.injector import Injector
from robustseg_core.faults.schedule import (
    ALL,
    FaultSpec,
    check,
    parse_fault,
    parse_kill,
    read_fault,
)

__all__ = [
    "ALL",
    "FaultModel",
    "FaultSpec",
    "FaultState",
    "Injector",
    "Sample",
    "available",
    "check",
    "describe",
    "load",
    "parse_fault",
    "parse_kill",
    "reached",
    "read_fault",
]
