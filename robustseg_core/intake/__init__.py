"""The first half of the product: messages in, closed sets out.

    push    message -> decode -> check -> Reading -> admit -> set
    offer   message -> admit -> set -> decode -> check -> Reading

What is pushed is looked at as it comes: a replay's way. What is offered is looked into when a set
needs it: the live node's way, for whom most messages of a busy moment are never looked at. Both
judge arrival and stamp of every message.

Whatever is wrong with a message, it is rejected, counted and named, and nothing stops.

`intake.py` is the gate itself. What it asks has a file for each subject: `reading` (decode and
check), `drafts` (what was offered), `clocks` (stamps), `calibration` (CameraInfo and transforms),
`register` (what was found, counted). `router` hands one robot's messages to the gates of all its
cameras. What can be attached to it: `observer`, `policy`, `journal`.
"""

from robustseg_core.intake.calibration import MOVING, TRANSFORM, Calibration
from robustseg_core.intake.clocks import TOGETHER_NS, Clocks
from robustseg_core.intake.drafts import CHECKED_NS, Content, Draft, Drafts
from robustseg_core.intake.intake import ACKNOWLEDGED, MOST_PACKETS, MOST_WAITING, Intake
from robustseg_core.intake.journal import NO_JOURNAL, Act, Journal
from robustseg_core.intake.observer import NOBODY, Observer
from robustseg_core.intake.policy import HEALTH_DECIDES, HealthDecides, Policy
from robustseg_core.intake.reading import Decode, checked, each_for_itself
from robustseg_core.intake.register import Register
from robustseg_core.intake.router import Router

__all__ = [
    "ACKNOWLEDGED",
    "CHECKED_NS",
    "HEALTH_DECIDES",
    "MOST_PACKETS",
    "MOST_WAITING",
    "MOVING",
    "NOBODY",
    "NO_JOURNAL",
    "TOGETHER_NS",
    "TRANSFORM",
    "Act",
    "Calibration",
    "Clocks",
    "Content",
    "Decode",
    "Draft",
    "Drafts",
    "HealthDecides",
    "Intake",
    "Journal",
    "Observer",
    "Policy",
    "Register",
    "Router",
    "checked",
    "each_for_itself",
]
