"""What a gate decided, as plain data: written beside the streams, and compared with a replay's.

Two accounts are equal when their texts are: floats are written as `repr` has them, so nothing is
rounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from robustseg_core.segmenter import FAILED, Lost, Outcome
from robustseg_core.types import Fault, Finding, Health, LabelMap, State, kind_of

Account = dict[str, Any]


def text(tree: Any) -> str:
    """One line of JSON; numbers of NumPy as Python's."""
    return json.dumps(tree, separators=(",", ":"), default=lambda number: number.item())


def of_finding(finding: Finding) -> Account:
    """All that is known of it; `told` is for people."""
    return {
        "fault": finding.fault.value,
        "fatal": finding.fatal,
        "text": finding.text,
        "score": finding.score,
        "final": finding.final,
        "value": finding.value,
        "limit": finding.limit,
        "unit": finding.unit,
    }


def to_finding(account: Mapping[str, Any]) -> Finding:
    """The finding again.

    Raises:
        Exception: of any kind; it is none.
    """
    return Finding(**{**account, "fault": Fault(account["fault"])})


def of_findings(findings: Iterable[Finding]) -> list[Account]:
    """The strongest first."""
    return [of_finding(finding) for finding in findings]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is kept of a step while it is fresh: no picture, and nothing that grows."""

    kind: str
    """`mask`, `lost`, `refused` or `failed`."""
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, outcome: Outcome) -> Decision | None:
        """Of what a step made; None: there was no set."""
        if outcome is None:
            return None
        if isinstance(outcome, LabelMap):
            frames = outcome.bundle.frames
            facts = {
                "stamp_ns": outcome.stamp_ns,
                "frame_id": outcome.frame_id,
                "size": outcome.ids.shape,
                "used": outcome.used,
                "quality": {name: frames[kind_of(name)].quality for name in outcome.used},
                "stamps_ns": {name: frames[kind_of(name)].stamp_ns for name in outcome.used},
                "held_ms": outcome.held_ms,
                "states": outcome.states,
                "why": outcome.reasons,
            }
            return cls("mask", facts)
        if isinstance(outcome, Lost):
            why = {name: (finding,) for name, finding in outcome.absent.items()}
            return cls("lost", {"stamp_ns": outcome.stamp_ns, "why": why})
        if isinstance(outcome, Finding):
            return cls("refused", {"why": {"network": (outcome,)}})
        return cls(FAILED, {})

    def account(self) -> Account:
        """As it is written."""
        tree: Account = {"kind": self.kind, **self.facts}
        if "states" in tree:
            tree["states"] = {name: state.value for name, state in tree["states"].items()}
        if "why" in tree:
            tree["why"] = {name: of_findings(found) for name, found in sorted(tree["why"].items())}
        for name in ("size", "used"):
            if name in tree:
                tree[name] = list(tree[name])
        return tree


def of_states(healths: Mapping[str, Health]) -> Account:
    """What was believed of each sensor."""
    return {
        name: {
            "state": health.state.value,
            "score": health.score,
            "age_ms": health.age_ms,
            "rate_hz": health.rate_hz,
            "received": health.received,
            "findings": of_findings(health.findings),
        }
        for name, health in healths.items()
    }


STRUCK = {
    State.DEAD: (State.LIVE, State.DEGRADED),
    State.WAITING: (State.LIVE, State.DEGRADED),
    State.DEGRADED: (State.LIVE,),
}
"""What a sensor became -> what it was before, where that is a fault: it fell out of use, cannot be
placed any more, or is suspected. From RECOVERING to DEAD it was out already."""


def struck(
    before: Mapping[str, State], after: Mapping[str, State], *, suspected: bool
) -> list[str]:
    """The sensors that a fault has just struck.

    Args:
        before: what was believed, ...
        after: ... and what is believed now.
        suspected: whether it is one that a sensor is merely suspected (DEGRADED).
    """
    return [
        name
        for name, state in after.items()
        if before.get(name) in STRUCK.get(state, ()) and (suspected or state is not State.DEGRADED)
    ]
