"""A message becomes a `Reading`: decoded, checked, and named with what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from robustseg_core.codecs.fields import header
from robustseg_core.modalities import Modality
from robustseg_core.types import Fault, Finding, Reading, Rejection

log = logging.getLogger(__name__)

Decode: TypeAlias = Callable[[Modality, Any, int], Any]
"""Decoder, message, stamp -> what the decoder's `decode` makes of it, or raises."""


def each_for_itself(decoder: Modality, message: Any, stamp_ns: int) -> Any:
    """Every message is decoded when it is looked into."""
    return decoder.decode(message, stamp_ns)


def checked(decoder: Modality, data: Any) -> tuple[tuple[Finding, ...], float]:
    """(what the content checks find in a sensor's data, quality that they leave of it)."""
    findings = tuple(decoder.check(data))
    return findings, min((max(f.score, f.left) for f in findings), default=1.0)


def read(
    decoder: Modality, message: Any, decode: Decode
) -> tuple[Reading, tuple[Finding, ...], int] | Finding:
    """(reading, what is found of it, fingerprint), or why there is none; nothing is raised."""
    try:
        reading, notes = _read(decoder, message, decode)
        return reading, notes, decoder.digest(message)
    except Rejection as rejection:
        return rejection.finding
    except Exception as error:
        log.exception("decoding a message of %s failed", decoder.name)
        return Finding(Fault.INTERNAL, fatal=True, text=f"{type(error).__name__}: {error}")


def _read(decoder: Modality, message: Any, decode: Decode) -> tuple[Reading, tuple[Finding, ...]]:
    """Decode and check; raises the first fatal finding as a Rejection."""
    stamp_ns, frame_id = header(message)
    data = decode(decoder, message, stamp_ns)
    findings, quality = checked(decoder, data)
    fatal = next((finding for finding in findings if finding.fatal), None)
    if fatal is not None:
        raise Rejection(fatal.fault, fatal.text, final=fatal.final)
    return Reading(decoder.name, stamp_ns, frame_id, data, quality), findings
