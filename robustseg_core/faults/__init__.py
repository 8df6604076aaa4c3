"""Faults on purpose: one vocabulary with `types.Fault`, applied to messages, seeded, on schedule.

    rgb:stuck@12s+5s -> FaultSpec -> Injector -> the messages of a broken robot

The same injector serves bags (`robustseg_core.recording.inject`), replays, training and the live
node.
"""

from robustseg_core.faults._base import FaultModel, FaultState, Sample
from robustseg_core.faults.catalog import available, describe, load
from robustseg_core.faults.injector import Injector
from robustseg_core.faults.schedule import ALL, FaultSpec, check, of_kill, parse_fault

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
    "of_kill",
    "parse_fault",
]
