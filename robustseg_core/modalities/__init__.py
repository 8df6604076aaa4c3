"""Sensor message to array: one file, one modality; the file's name is the modality's name."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from robustseg_core import plugins
from robustseg_core.config import Strict
from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.modalities._base import Content, Modality
from robustseg_core.modalities._corruptions import ANY, Corruption
from robustseg_core.types import LONGEST_NAME, kind_of

__all__ = [
    "Content",
    "Corruption",
    "Modality",
    "available",
    "channels_of",
    "content_of",
    "corruptions_of",
    "limits_of",
    "load",
    "payload_name",
    "ranked",
    "unfed",
    "usable",
]

log = logging.getLogger(__name__)

_DECLARED = [name for name, of in Modality.__annotations__.items() if of.startswith("ClassVar")]
"""What a modality declares; where the base class has no value, each has its own."""


def available() -> list[str]:
    """Names of all modalities that there are, by the alphabet; none of them is imported."""
    return plugins.available(__name__)


def load(name: str) -> type[Modality]:
    """The modality class called `name`, or of the stream that is called so (`rgb.front`).

    Raises:
        RobustsegError: there is none, and the text lists those that there are; or its file is
            half-written, and the text says what is missing.
    """
    kind = plugins.load(__name__, kind_of(name), Modality)
    plugins.require_whole(kind, _DECLARED)
    return kind


def usable() -> dict[str, type[Modality]]:
    """All modalities by rank, without those whose file lacks a library or is half-written.

    These hurt only who asks for them; a warning says so, once.
    """
    kinds = ((name, _tried(name)) for name in ranked())
    return {name: kind for name, kind in kinds if kind is not None}


def ranked(names: Iterable[str] | None = None) -> tuple[str, ...]:
    """These modalities (None: all that there are) by their rank, as sensors are ordered everywhere.

    Those without a plug-in, or whose plug-in lacks a library or is half-written, are the last, in
    the given order.
    """
    known = available()
    return tuple(sorted(known if names is None else names, key=lambda name: _rank(name, known)))


def limits_of(name: str) -> type[Strict]:
    """The configuration model of a modality's content limits."""
    return load(name).Limits


def payload_name(message: Any) -> str:
    """The field of a sensor's message that holds what it saw, as the modalities declare it."""
    usual = Modality.payload
    declared = (_declared(name, "payload", usual) for name in available())
    return next((f for f in declared if f != usual and hasattr(message, f)), usual)


def channels_of(name: str, options: Mapping[str, Any]) -> int:
    """C of the images of a modality whose encoding has these options.

    Of one without a plug-in, and of the pictures that public collections come with: 3.
    """
    if name in available():
        with suppress(RobustsegError):  # a collection's own encoding
            return load(name)(encoding=options).encoding.channels
    return Modality.Encoding().channels


def unfed(name: str, options: Mapping[str, Any]) -> str:
    """Why no live sensor gives images that are encoded so; empty: one does.

    Public collections come with pictures of their own making, which networks that learned from them
    expect: `representation` says which.
    """
    if name not in available():
        return f"no live sensor is called {name!r}"
    known = load(name).Encoding.model_fields
    if "representation" in options and "representation" not in known:
        form = str(options["representation"])[:LONGEST_NAME]
        return f"the network learned from its data set's own pictures ({form}), no sensor's"
    return ""


def content_of(name: str) -> Content | None:
    """What the messages of a modality hold, as it declares; None: nobody knows."""
    content: Content | None = None
    if kind_of(name) in available():
        content = _declared(name, "content", None)
    return content


def corruptions_of(name: str) -> dict[str, Corruption]:
    """What training may do to a modality: fault -> how it looks."""
    return {**ANY, **(load(name).corruptions if name in available() else {})}


def _rank(name: str, known: list[str]) -> float:
    return _declared(name, "rank", math.inf) if kind_of(name) in known else math.inf


def _declared(name: str, what: str, otherwise: Any) -> Any:
    """What a modality declares; of one that lacks its library, or a part: something else."""
    kind = _tried(name)
    return otherwise if kind is None else getattr(kind, what)


def _tried(name: str) -> type[Modality] | None:
    try:
        return load(name)
    except ImportError as error:
        _warn(f"no {name}: {not_installed(error.name or str(error))}")
    except RobustsegError as error:
        _warn(f"no {name}: {error}")
    return None


@cache
def _warn(text: str) -> None:
    log.warning("%s", text)
