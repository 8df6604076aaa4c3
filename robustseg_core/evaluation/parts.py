"""What one recording adds to an evaluation: counts that are summed, kept in a file meanwhile.

Every part is counted alone, in batches of its own, so the sum does not depend on who counted it, or
on what else there is.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.results import Group, ScoredFrame
from robustseg_core.storage.budget import check_zip, parse_json

_ARRAYS = ("counts", "blind", "bins", "kept", "cells")
_PICTURES = ("picture", "truth", "labels")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """Counts of some samples in T trials, by their G groups."""

    groups: tuple[Group, ...]
    sizes: tuple[int, ...]
    """Labelled samples per group."""
    counts: NDArray[np.int64]
    """(T, G, K, K + 1), as `Results.counts`."""
    blind: NDArray[np.int64]
    """(T,), as `Results.blind`."""
    bins: NDArray[np.float64]
    """(T, G, BINS, 3), as `Results.bins`."""
    kept: NDArray[np.int64]
    """(T, G, A, K, 2), as `Results.kept`."""
    cells: NDArray[np.int64]
    """(G, P, K): how often each class is at each place of `metrics.PRIOR_GRID`."""
    present: Mapping[str, int]
    """modality -> labelled samples that have it."""
    ids: tuple[str, ...]
    """Of all labelled samples, in order."""
    unlabelled: int
    size: tuple[int, int]
    """(H, W) of the images; (0, 0): there is no labelled sample."""
    label_size: tuple[int, int]
    worst: tuple[ScoredFrame, ...]

    def save(self, path: Path) -> None:
        """One file that holds all of it, to the bit."""
        account = {
            "groups": [[g.scene, g.condition, g.case] for g in self.groups],
            "sizes": self.sizes,
            "present": dict(self.present),
            "ids": self.ids,
            "unlabelled": self.unlabelled,
            "size": self.size,
            "label_size": self.label_size,
            "worst": (worst := packed(self.worst, ""))[0],
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS} | worst[1]
        text = np.frombuffer(json.dumps(account).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez_compressed(file, account=text, **arrays)


def load(path: Path) -> Part | None:
    """What `Part.save` wrote; None: there is none, or it is damaged."""
    try:
        check_zip(path)
        with np.load(path, allow_pickle=False) as file:
            account: dict[str, Any] = parse_json(file["account"].tobytes())
            return Part(
                groups=tuple(Group(*words) for words in account["groups"]),
                sizes=tuple(account["sizes"]),
                **{name: file[name] for name in _ARRAYS},
                present=account["present"],
                ids=tuple(account["ids"]),
                unlabelled=int(account["unlabelled"]),
                size=_pair(account["size"]),
                label_size=_pair(account["label_size"]),
                worst=unpacked(account["worst"], file, ""),
            )
    except (RobustsegError, OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
        return None


def packed(frames: Sequence[ScoredFrame], prefix: str) -> tuple[list[list[Any]], Arrays]:
    """What a file's JSON says of frames, and their pictures by name, which begins with `prefix`."""
    rows: list[list[Any]] = []
    arrays: Arrays = {}
    for number, frame in enumerate(frames):
        others = list(frame.others)
        rows.append([frame.id, frame.scene, frame.score, frame.sensors, others])
        for name in _PICTURES:
            if (picture := getattr(frame, name)) is not None:
                arrays[f"{prefix}{name}_{number}"] = picture
        for place, subset in enumerate(others):
            arrays[f"{prefix}others_{number}_{place}"] = frame.others[subset]
    return rows, arrays


def unpacked(
    rows: Sequence[Sequence[Any]], arrays: Mapping[str, NDArray[Any]], prefix: str
) -> tuple[ScoredFrame, ...]:
    """The frames that were `packed`.

    Raises:
        ValueError, TypeError, KeyError: it is not what was written.
    """
    frames = []
    for number, (name, scene, score, sensors, others) in enumerate(rows):
        keys = {key: f"{prefix}{key}_{number}" for key in _PICTURES}
        frames.append(
            ScoredFrame(
                str(name),
                str(scene),
                float(score),
                **{key: arrays[own] for key, own in keys.items() if own in arrays},
                sensors=tuple(map(str, sensors)),
                others={
                    tuple(map(str, subset)): arrays[f"{prefix}others_{number}_{place}"]
                    for place, subset in enumerate(others)
                },
            )
        )
    return tuple(frames)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)


def together(parts: Sequence[Part]) -> Part:
    """The sum of all, at least one; groups in order of name.

    Raises:
        RobustsegError: images or labels of two sizes.
    """
    some = [part for part in parts if part.ids] or [parts[0]]
    for what in ("size", "label_size"):
        first, own = some[0], getattr(some[0], what)
        for part in some:
            if (other := getattr(part, what)) != own:
                raise RobustsegError(
                    f"{'images' if what == 'size' else 'labels'} of {part.ids[0]} are "
                    f"{other[0]}x{other[1]} and those of {first.ids[0]} {own[0]}x{own[1]}; give "
                    "the data set one size"
                )
    sizes = Counter[Group]()
    present = Counter[str]()
    for part in parts:
        sizes.update(dict(zip(part.groups, part.sizes, strict=True)))
        present.update(part.present)
    groups = tuple(sorted(sizes, key=lambda g: (g.scene, g.condition, g.case)))
    place = {group: number for number, group in enumerate(groups)}
    arrays: dict[str, Any] = {}
    for name, axis in (("counts", 1), ("bins", 1), ("kept", 1), ("cells", 0)):
        like = getattr(parts[0], name)
        shape = list(like.shape)
        shape[axis] = len(groups)
        total = np.zeros(shape, like.dtype)
        for part in parts:
            own = [place[group] for group in part.groups]
            total[(slice(None),) * axis + (own,)] += getattr(part, name)
        arrays[name] = total
    return replace(
        some[0],
        groups=groups,
        sizes=tuple(sizes[group] for group in groups),
        **arrays,
        blind=sum((part.blind for part in parts), np.zeros_like(parts[0].blind)),
        present=dict(present),
        ids=tuple(name for part in parts for name in part.ids),
        unlabelled=sum(part.unlabelled for part in parts),
        worst=tuple(frame for part in parts for frame in part.worst),
    )
