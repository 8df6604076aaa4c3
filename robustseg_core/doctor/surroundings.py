"""What surrounds the streams of a living robot: its clock, and what carries its messages."""

from __future__ import annotations

from collections.abc import Mapping

from robustseg_core.doctor.loss import FAST_DDS
from robustseg_core.doctor.observation import BAD, NONE, OK, WARN
from robustseg_core.doctor.report import Check
from robustseg_core.robot.transports import ROOMY, VARIABLE
from robustseg_core.types import SECOND

HELD_UP_S = 0.3
"""A pause of the doctor's own; a node that pauses so long takes living sensors for silent."""
STILL_NS = SECOND * 9 // 10
"""A clock that has not moved for this long stands still."""
LOOK_S = 0.25
"""The node looks at its clock so often, and says at once what it finds."""
YOUNG_NS = 2 * SECOND
"""So long after activation nobody is missed on /clock: discovery takes its time."""
BACK_TOLD_NS = 5 * SECOND
"""That a clock went back is told for so long."""
RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"


class ClockWatch:
    """What /clock has said, looked at now and then; the doctor's rule, and the node's.

    Args:
        now_ns: steady clock, when watching begins.
    """

    def __init__(self, now_ns: int) -> None:
        self._begun_ns = now_ns
        self._said_ns: int | None = None
        self._moved_ns = now_ns
        """When /clock was last seen to have moved, on the steady clock."""
        self._back: tuple[int, int] | None = None
        """(when it last went back, by how much), ns."""

    def look(self, said_ns: int, now_ns: int) -> None:
        """/clock says `said_ns` now."""
        if said_ns != self._said_ns:
            self._moved_ns = now_ns if self._said_ns is not None else self._moved_ns
            if self._said_ns is not None and said_ns < self._said_ns:
                self._back = now_ns, self._said_ns - said_ns
            self._said_ns = said_ns

    def complaint(self, publishers: int, now_ns: int) -> str:
        """What a node with use_sim_time says of /clock; empty: nothing.

        Args:
            publishers: how many publish it.
            now_ns: steady clock.
        """
        check = check_clock(publishers, self, now_ns, use_sim_time=True)
        young = now_ns - self._begun_ns < YOUNG_NS
        return "" if check.status is OK or young else f"{check.found}; {check.fix}"

    def stands_still(self, now_ns: int) -> bool:
        """Whether it has not been seen to move for `STILL_NS`."""
        return now_ns - self._moved_ns >= STILL_NS

    def went_back_ns(self, now_ns: int) -> int:
        """By how much it went back within the last `BACK_TOLD_NS`; 0: it did not."""
        recent = self._back is not None and now_ns - self._back[0] <= BACK_TOLD_NS
        return self._back[1] if self._back is not None and recent else 0


def check_clock(publishers: int, watch: ClockWatch, now_ns: int, *, use_sim_time: bool) -> Check:
    """Whether the clock that the node goes by is there and goes (docs/robustness.md, rows 15, 16).

    Args:
        publishers: how many publish /clock.
        watch: has looked at /clock.
        now_ns: steady clock.
        use_sim_time: the node's parameter.
    """
    masks = "masks come all the same, by their stamps"
    if not use_sim_time:
        if not publishers:
            return Check("clock", OK, "the robot's own")
        found = "somebody publishes /clock, and use_sim_time is false"
        return Check("clock", WARN, found, "set use_sim_time: true, if this is a simulation")
    if publishers > 1:
        found = f"{publishers} publishers of /clock, expected 1: time jumps between them"
        return Check("clock", WARN, found, "stop all but one; ros2 topic info -v /clock names them")
    if not publishers:
        found = f"use_sim_time is true, and nobody publishes /clock; {masks}"
        fix = "run the simulator, `ros2 bag play --clock`, or set use_sim_time: false"
        return Check("clock", WARN, found, fix)
    if watch.stands_still(now_ns):
        found = f"/clock stands still; {masks}"
        return Check("clock", WARN, found, "let the simulator, or the bag player, go on")
    if back_ns := watch.went_back_ns(now_ns):
        found = f"/clock went back by {back_ns / SECOND:.1f} s; {masks}"
        fix = "nothing, if a bag was played again or a simulation reset; else stop what sets it"
        return Check("clock", WARN, found, fix)
    return Check("clock", OK, "/clock")


def check_transports(environment: Mapping[str, str], middleware: str) -> Check:
    """Whether images get through: what `robustseg_core.robot.transports` has measured.

    It matters in the *publishing* process. The doctor sees its own shell only, from which drivers
    are often started.

    Args:
        environment: of the shell.
        middleware: what rclpy says that it uses.
    """
    if middleware != FAST_DDS:
        return Check("transport", NONE, middleware)
    chosen = environment.get(VARIABLE, "")
    if environment.get(RANGE, "").upper() == "LOCALHOST":
        found = f"{RANGE}=LOCALHOST: large messages get lost, whatever {VARIABLE} says"
        return Check("transport", BAD, found, f"unset {RANGE}; use ROS_DOMAIN_ID to keep apart")
    if not chosen:
        found = f"{VARIABLE} is not set here: drivers started so lose images above 0.5 MB"
        return Check("transport", WARN, found, f"export {VARIABLE}='{ROOMY}' where drivers start")
    if chosen.upper().startswith("LARGE_DATA"):
        found = f"{VARIABLE}={chosen}: deaf to all who have not set it, and they to us"
        fix = f"export {VARIABLE}='{ROOMY}', which stays compatible, or set it everywhere"
        return Check("transport", WARN, found, fix)
    return Check("transport", OK, chosen)


def check_computer(held_up_s: float, load: float, cores: int) -> Check:
    """Whether the doctor itself came to listen: on a busy computer every sensor looks slow.

    Args:
        held_up_s: longest pause between two looks at what has arrived.
        load: processes that wanted to run, on average.
        cores: how many could.
    """
    busy = f"load {load:.1f} on {cores} cores"
    if held_up_s <= HELD_UP_S:
        return Check("computer", OK, busy)
    found = f"the doctor was held up for {held_up_s:.1f} s, {busy}: rates and ages are doubtful"
    return Check("computer", WARN, found, "stop other programs, and listen again for --seconds 20")
