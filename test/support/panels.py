"""What a Foxglove layout's panels ask a recording for: message paths, and where the panels lie.

The paths are those of Foxglove's documentation ("Message path syntax") that `config/view` uses:
`/topic.field[3]`, `[:]`, and a filter `{name=="a word"}` on what was reached so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

Cell = tuple[float, float, float, float]
"""left, top, width, height, as shares of the whole."""

_STEP = re.compile(r"""\.(?P<name>\w+)|\[(?P<at>-?\d+|:)\]|\{(?P<key>\w+)=="(?P<word>[^"]*)"\}""")


def topic_of(path: str) -> str:
    """The part in front of the first field or filter."""
    return re.split(r"[.{]", path, maxsplit=1)[0]


def values(path: str, message: Any) -> list[Any]:
    """What `path` reaches in a message of its topic; a field that is not there raises.

    Raises:
        ValueError: not a path.
        AttributeError: the message has no such field.
    """
    rest, found = path[len(topic_of(path)) :], [message]
    while rest:
        step = _STEP.match(rest)
        if step is None:
            raise ValueError(f"{path}: cannot read {rest!r}")
        rest = rest[step.end() :]
        if name := step["name"]:
            found = [getattr(one, name) for one in found]
        elif (at := step["at"]) == ":":
            found = [element for one in found for element in one]
        elif at:
            found = [one[int(at)] for one in found if -len(one) <= int(at) < len(one)]
        else:
            found = [one for one in found if getattr(one, step["key"]) == step["word"]]
    return [one.item() if isinstance(one, np.generic) else one for one in found]


def paths_of(panel: dict[str, Any]) -> list[str]:
    """All topics and message paths that a panel's configuration names."""
    image = panel.get("imageMode", {})
    named = [image.get("imageTopic"), image.get("calibrationTopic")]
    named += [panel.get("topicToRender"), panel.get("topicPath")]
    named += [path["value"] for path in panel.get("paths", ())]
    named += [topic for topic, how in panel.get("topics", {}).items() if how.get("visible")]
    return [path for path in named if path]


def cells(layout: Any, cell: Cell = (0.0, 0.0, 1.0, 1.0)) -> Iterator[tuple[str, Cell]]:
    """Each panel of a layout's tree, and where it lies."""
    if isinstance(layout, str):
        yield layout, cell
        return
    left, top, width, height = cell
    share = layout.get("splitPercentage", 50) / 100
    if layout["direction"] == "row":
        yield from cells(layout["first"], (left, top, width * share, height))
        yield from cells(layout["second"], (left + width * share, top, width * (1 - share), height))
    else:
        yield from cells(layout["first"], (left, top, width, height * share))
        yield from cells(
            layout["second"], (left, top + height * share, width, height * (1 - share))
        )
