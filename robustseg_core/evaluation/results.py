"""What an evaluation found: counts per trial and group of samples, and all that explains them.

Every figure, table, interval and comparison is derived from these counts; none needs the data or
the network again.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustseg_core.config import Strict, parse
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.protocols import INTACT, Trial, Variant
from robustseg_core.metrics import ABSENT, BINS
from robustseg_core.storage.budget import check_zip, read_json

FORMAT = "robustseg-results/1"
_MORE = ("bins", "kept", "prior")
"""Arrays beside the counts."""


class About(Strict):
    """What must be said beside every number."""

    checkpoint: str = Field(description="File name of the weights.")
    checkpoint_sha256: str = Field("", description="Of the file; empty: the network was in memory.")
    provenance: str = Field(description="Where the weights come from, and the rule of choosing.")
    trained: bool = Field(description="False: random weights.")
    dataset: str
    split: str
    size: tuple[int, int] = Field(description="(H, W) of the images that the network saw.")
    label_size: tuple[int, int] = Field(description="(H, W) that was scored.")
    samples: int = Field(gt=0, description="Labelled samples, which were scored.")
    unlabelled: int = Field(0, description="Samples without a label, which were left out.")
    samples_sha256: str = Field(description="Of the ids of all scored samples, sorted.")
    modalities: tuple[str, ...] = Field(description="Whose subsets were taken.")
    present: dict[str, int] = Field(description="modality -> samples that have it.")
    protocols: tuple[str, ...]
    missing: tuple[str, ...]
    rates: tuple[float, ...]
    absent: str = Field(description="Rule for classes that do not occur: zero or skip.")
    seed: int = Field(description="Of RMM and NM.")
    calibrated: bool = Field(
        default=False, description="Whether the checkpoint's confidence was calibrated."
    )
    alphas: tuple[float, ...] = Field(
        default=(), description="Shares of wrong pixels that it promises not to exceed."
    )
    prior_of: str = Field(
        default="", description="What the position prior is painted from; empty: there is none."
    )

    def caption(self) -> str:
        """One line for under a table."""
        height, width = self.size
        ways = {"subsets": "skipped in subsets", "emm": "zero in emm", "rmm": "zero in rmm"}
        missing = ", ".join(word for name, word in ways.items() if name in self.protocols)
        weights = f"{self.checkpoint}{'' if self.trained else ' (UNTRAINED)'}: {self.provenance}"
        return (
            f"{self.dataset} {self.split}, {self.samples} samples, input {height}x{width}, "
            f"scored at {self.label_size[0]}x{self.label_size[1]}; {ABSENT[self.absent]}; "
            f"missing sensors: {missing or 'none'}; noise seed {self.seed}; weights {weights}"
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Samples that no table tells apart."""

    scene: str
    condition: str = ""
    case: str = ""


@dataclass(frozen=True, slots=True)
class ScoredFrame:
    """A frame with what was predicted, for looking at."""

    id: str
    scene: str
    score: float
    """Mean IoU over the classes that the frame's truth holds; for ranking only."""
    picture: NDArray[np.uint8] | None = None
    """(H, W, 3) RGB of what a sensor saw; None in results that were read back from a file."""
    truth: NDArray[np.uint8] | None = None
    """(H, W) class ids."""
    labels: NDArray[np.uint8] | None = None
    """(H, W) class ids."""
    sensors: tuple[str, ...] = ()
    """That the labels were made of."""
    others: Mapping[tuple[str, ...], NDArray[np.uint8]] = field(default_factory=dict)
    """Sensors -> (H, W) class ids that were made of these alone."""


@dataclass(frozen=True, slots=True)
class Results:
    """Counts and their account."""

    about: About
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    trials: tuple[Trial, ...]
    groups: tuple[Group, ...]
    sizes: tuple[int, ...]
    """Samples per group."""
    counts: NDArray[np.int64]
    """(T, G, K, K + 1): trial, group, truth, prediction (last: none)."""
    blind: NDArray[np.int64]
    """(T,) samples of which nothing was left in the trial: all their pixels are misses."""
    worst: tuple[ScoredFrame, ...] = field(default=())
    bins: NDArray[np.float64] | None = None
    """(T, G, BINS, 3) of `metrics.reliability`, zero in trials whose confidence is not counted;
    None in results of an earlier version, as the next two."""
    kept: NDArray[np.int64] | None = None
    """(T, G, A, K, 2) by alpha and predicted class: pixels that keep their label, right ones."""
    prior: NDArray[np.int64] | None = None
    """(G, K, K + 1) of `metrics.PositionPrior`."""

    def places(self, attribute: str, value: str) -> list[int]:
        """Which groups are of one scene, condition or case; of no attribute, all are."""
        return [
            i
            for i, group in enumerate(self.groups)
            if not attribute or getattr(group, attribute) == value
        ]

    def pick(self, attribute: str, value: str) -> tuple[NDArray[np.int64], int]:
        """(T, K, K + 1) counts and the number of samples of one scene, condition or case."""
        own = self.places(attribute, value)
        return self.counts[:, own].sum(1), sum(self.sizes[i] for i in own)

    def values(self, attribute: str) -> list[str]:
        """Scenes, conditions or cases that occur, sorted; none if samples are not tagged so."""
        found = {getattr(group, attribute) for group in self.groups}
        return sorted(found) if found - {""} else []

    def save(self, folder: Path, derived: dict[str, Any]) -> Path:
        """`results.json` and `counts.npz` in `folder`; returns the path of the former.

        Args:
            folder: exists.
            derived: figures to write beside the account; not read back.
        """
        tree = {
            "format": FORMAT,
            "about": self.about.model_dump(mode="json"),
            **derived,
            "worst_frames": [
                {"id": f.id, "scene": f.scene, "score": round(f.score, 4)} for f in self.worst
            ],
            "classes": list(self.classes),
            "palette": [list(color) for color in self.palette],
            "trials": [
                {
                    "protocol": t.protocol,
                    "subset": list(t.subset),
                    "shown": _variant_words(t.shown),
                    "others": None if t.others is None else _variant_words(t.others),
                    "blind": int(blind),
                }
                for t, blind in zip(self.trials, self.blind, strict=True)
            ],
            "groups": [
                {"scene": g.scene, "condition": g.condition, "case": g.case, "samples": n}
                for g, n in zip(self.groups, self.sizes, strict=True)
            ],
        }
        more = {name: getattr(self, name) for name in _MORE}
        there = {name: array for name, array in more.items() if array is not None}
        np.savez_compressed(folder / "counts.npz", counts=self.counts, **there)
        path = folder / "results.json"
        path.write_text(json.dumps(tree, indent=1, allow_nan=False) + "\n")
        return path


def load(path: Path | str) -> Results:
    """The results that `Results.save` wrote; pictures of worst frames are not kept.

    Args:
        path: a results.json with its counts.npz beside it, or their folder.

    Raises:
        RobustsegError: a file is missing, damaged or of another version, or the two do not belong
            together.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        tree = read_json(path)
    except OSError as error:
        raise RobustsegError(
            f"cannot read {path}: {error.strerror}; give a results.json of `robustseg eval`"
        ) from None
    except ValueError as error:
        raise RobustsegError(f"{path} is not JSON ({error}); evaluate again") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        what = tree.get("format") if isinstance(tree, dict) else type(tree).__name__
        raise RobustsegError(
            f"{path} is of format {what!r}; expected {FORMAT!r}, as `robustseg eval` writes it"
        )
    try:
        check_zip(path.with_name("counts.npz"))
        with np.load(path.with_name("counts.npz"), allow_pickle=False) as file:
            counts = file["counts"]
            more = {name: file[name] for name in _MORE if name in file}
    except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise RobustsegError(
            f"cannot read counts.npz beside {path} ({error}); keep the two files together"
        ) from None
    try:
        results = replace(_build(tree, counts), **more)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RobustsegError(f"{path} is damaged ({error!r}); evaluate again") from None
    shape = (len(results.trials), len(results.groups), len(results.classes))
    if counts.shape != (*shape, shape[2] + 1) or not np.issubdtype(counts.dtype, np.integer):
        raise RobustsegError(
            f"counts.npz beside {path} holds {counts.dtype} {counts.shape}; expected integers "
            f"{(*shape, shape[2] + 1)}; the two files are from different runs"
        )
    _expect_more(path, results, shape)
    return results


def _expect_more(path: Path, results: Results, shape: tuple[int, int, int]) -> None:
    """Nothing, if what else is counted has the shape that the counts have."""
    trials, groups, classes = shape
    wanted = {
        "bins": (trials, groups, BINS, 3),
        "kept": (trials, groups, len(results.about.alphas), classes, 2),
        "prior": (groups, classes, classes + 1),
    }
    for name, want in wanted.items():
        array = getattr(results, name)
        if array is not None and (array.shape != want or array.dtype.kind not in "iuf"):
            raise RobustsegError(
                f"counts.npz beside {path} holds {name} of {array.dtype} {array.shape}; expected "
                f"numbers {want}; the two files are from different runs"
            )


def tally(sizes: Counter[Group]) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    """Groups in order of name, and how many samples each has."""
    groups = sorted(sizes, key=lambda g: (g.scene, g.condition, g.case))
    return tuple(groups), tuple(sizes[g] for g in groups)


def _build(tree: dict[str, Any], counts: NDArray[np.int64]) -> Results:
    return Results(
        about=parse(About, tree["about"], where="about"),
        classes=tuple(tree["classes"]),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in tree["palette"]),
        trials=tuple(
            Trial(
                t["protocol"],
                tuple(t["subset"]),
                _variant(t["shown"]),
                None if t["others"] is None else _variant(t["others"]),
            )
            for t in tree["trials"]
        ),
        groups=tuple(Group(g["scene"], g["condition"], g["case"]) for g in tree["groups"]),
        sizes=tuple(int(g["samples"]) for g in tree["groups"]),
        counts=counts,
        blind=np.array([t["blind"] for t in tree["trials"]], np.int64),
        worst=tuple(ScoredFrame(f["id"], f["scene"], f["score"]) for f in tree["worst_frames"]),
    )


def _variant_words(variant: Variant) -> list[str | float]:
    return [variant.kind] if variant == INTACT else [variant.kind, variant.level]


def _variant(words: Sequence[Any]) -> Variant:
    return Variant(*words)
