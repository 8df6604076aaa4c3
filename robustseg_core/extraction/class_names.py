"""Class lists of different makers, matched by name: whose `tree` is whose `vegetation`.

A name is what it says, or one of `SYNONYMS`: how ADE20K, Mapillary Vistas, COCO-Stuff, CamVid and
DELIVER call what Cityscapes has. What matches nothing is ignored, and said.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core import config
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.extraction.class_map import ClassMap
from robustseg_core.types import IGNORE

NOTHING = "ignore"
"""In the place of a class, in a file: pixels of it teach nothing."""
SYNONYMS: dict[str, tuple[str, ...]] = {
    "road": (
        "asphalt",
        "bike lane",
        "crosswalk plain",
        "lane marking crosswalk",
        "lane marking general",
        "manhole",
        "parking",
        "road line",
        "road marking",
        "route",
        "service lane",
        "street",
    ),
    "sidewalk": ("curb", "curb cut", "pavement", "pedestrian area"),
    "building": (
        "bridge",
        "building other",
        "edifice",
        "garage",
        "hovel",
        "house",
        "skyscraper",
        "tower",
    ),
    "wall": ("wall brick", "wall concrete", "wall other", "wall stone"),
    "fence": ("bannister", "barrier", "fencing", "guard rail", "railing"),
    "pole": ("column pole", "lamp post", "street light", "streetlight", "utility pole"),
    "traffic light": ("stoplight", "traffic signal"),
    "traffic sign": (
        "sign",
        "sign symbol",
        "signboard",
        "stop sign",
        "street sign",
        "traffic sign front",
    ),
    "vegetation": (
        "bush",
        "flora",
        "leaves",
        "palm",
        "palm tree",
        "plant",
        "plant life",
        "plant other",
        "tree",
    ),
    "terrain": (
        "dirt",
        "dirt track",
        "earth",
        "field",
        "grass",
        "gravel",
        "ground",
        "ground other",
        "land",
        "mud",
        "sand",
    ),
    "sky": ("clouds", "sky other"),
    "person": ("pedestrian", "people"),
    "rider": ("bicyclist", "cyclist", "motorcyclist", "other rider"),
    "car": ("auto", "automobile", "cars", "van"),
    "truck": ("lorry", "motortruck"),
    "bus": ("autobus", "coach"),
    "train": ("on rails", "tram"),
    "motorcycle": ("minibike", "motorbike"),
    "bicycle": ("bike", "cycle"),
}
"""Cityscapes' name -> what others call it or a part of it, in small letters and plain words."""
_COMMON = {word: name for name, words in SYNONYMS.items() for word in (name, *words)}


@dataclass(frozen=True, slots=True)
class Matched:
    """How one list speaks in the words of another."""

    table: NDArray[np.uint8]
    """(K,) id of the other list for each of ours; `IGNORE` where there is none."""
    unknown: tuple[str, ...]
    """Names that were neither matched nor settled by hand."""
    pairs: dict[str, str]
    """Name -> the other list's name."""

    def notice(self, wanted: Sequence[str]) -> str:
        """What was ignored, in one sentence with suggestions; empty: nothing was."""
        if not self.unknown:
            return ""
        told = [f"{name}{_suggested(name, wanted)}" for name in self.unknown[:12]]
        more = f" and {len(self.unknown) - 12} more" if len(self.unknown) > 12 else ""
        return (
            f"ignored are the teacher's classes {', '.join(told)}{more}, which are none of the "
            "student's; map what matters with --class-map FILE (lines `theirs: ours`)"
        )


def match(
    names: Sequence[str], wanted: Sequence[str], by_hand: Mapping[str | int, str | int] = {}
) -> Matched:
    """Match class names with wanted ones: by hand, by the same name, or by a synonym.

    Args:
        names: K class names, the place being the id.
        wanted: the names to speak in.
        by_hand: name or id -> name or id, or `ignore`; wins.

    Raises:
        RobustsegError: a name or id of `by_hand` is in neither list, or nothing matches at all.
    """
    same = {plain(name): place for place, name in reversed(list(enumerate(wanted)))}
    common = {_COMMON[plain(name)]: same[plain(name)] for name in wanted if plain(name) in _COMMON}
    for name in wanted:  # a list with both `road` and `street` keeps them apart
        if _COMMON.get(plain(name)) == plain(name):
            common[plain(name)] = same[plain(name)]
    told = {
        place_of(old, names, "the teacher's"): place_of(new, wanted, "the student's")
        for old, new in by_hand.items()
    }
    table = np.full(len(names), IGNORE, np.uint8)
    unknown = []
    for place, name in enumerate(names):
        if place in told:
            table[place] = told[place]
            continue
        found = _found(name, same, common)
        if found is None:
            unknown.append(name)
        else:
            table[place] = found
    pairs = {names[k]: wanted[i] for k, i in enumerate(table.tolist()) if i != IGNORE}
    if not pairs:
        few = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise RobustsegError(
            f"none of the teacher's {len(names)} classes ({few}) is one of the student's "
            f"({', '.join(wanted)}); map them with --class-map FILE (lines `theirs: ours`), or "
            "take another teacher"
        )
    return Matched(table, tuple(unknown), pairs)


def load_by_hand(path: Path) -> dict[str | int, str | int]:
    """What a file says of classes, for `match`: lines `theirs: ours`, names or ids, or a class map.

    Raises:
        RobustsegError: it cannot be read, or says something else.
    """
    tree = config.read_file(path)
    if isinstance(tree.get("ids"), Mapping):
        return {old: new for old, new in config.parse(ClassMap, tree).ids.items()}
    for old, new in tree.items():
        for value in (old, new):
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise RobustsegError(
                    f"{path} maps {old!r} to {new!r}; write lines `theirs: ours`, each a class's "
                    f"name or id, or `theirs: {NOTHING}`"
                )
    return {old: new for old, new in tree.items()}


def place_of(value: Any, names: Sequence[str], whose: str) -> int:
    """The id that a name or an id means.

    Raises:
        RobustsegError: it is neither.
    """
    if isinstance(value, int) and (0 <= value < len(names) or value == IGNORE):
        return value
    if value == NOTHING and NOTHING not in names:
        return IGNORE
    by_name = {plain(name): place for place, name in reversed(list(enumerate(names)))}
    if isinstance(value, str) and plain(value) in by_name:
        return by_name[plain(value)]
    way_out = f"give 0 to {len(names) - 1}" if isinstance(value, int) else ""
    raise RobustsegError(
        f"the class map names {value!r}, which is none of {whose} {len(names)} classes; "
        f"{way_out or did_you_mean(str(value), names)}"
    )


def plain(name: str) -> str:
    """A name in small letters and plain words."""
    return " ".join(re.sub(r"[^\w]+|_", " ", name.lower()).split())


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, told apart by their ids where two are equal (ADE20K has two screens)."""
    return tuple(
        name if name not in names[:place] else f"{name} ({place})"
        for place, name in enumerate(names)
    )


def _found(name: str, same: Mapping[str, int], common: Mapping[str, int]) -> int | None:
    """The id of the wanted class that a name means; its whole first, then each part in a row."""
    name = re.sub(r" \(\d+\)$", "", name)
    words = [plain(name), *(plain(part) for part in re.split(r"[,;/]", name))]
    for word in words:
        if word in same:
            return same[word]
    for word in words:
        if (shared := _COMMON.get(word)) is not None and shared in common:
            return common[shared]
    return None


def _suggested(name: str, wanted: Sequence[str]) -> str:
    words = [plain(name), *plain(name).split()]
    pool = [*map(plain, wanted), *(word for word in _COMMON if len(word) > 3)]
    for word in words:
        if close := difflib.get_close_matches(word, pool, n=1, cutoff=0.8):
            meant = _COMMON.get(close[0], close[0])
            if meant in map(plain, wanted):
                return f" ({meant}?)"
    return ""
