"""Published checkpoints become ours: one file that `eval`, `run` and the node take as it is.

The names of the tensors say which network it is, the tensors how large, the data set's class what
they were trained on; how the papers read that data set stands here, in one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustseg_core import datasets
from robustseg_core.datasets._collection import Collection
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models import checkpoint, hub, layouts, weights
from robustseg_core.models.weights import ImportReport, PublicWeights
from robustseg_core.storage.digest import sha256
from robustseg_core.text import visible
from robustseg_core.types import DataSpec, ModelSpec


def _read_as(resize: str, muses: str) -> Mapping[str, Mapping[str, Any]]:
    """Data set -> options with which a system's code reads it (docs/specs/datasets.md)."""
    return {
        "deliver": {"legacy_resize": resize},
        "mcubes": {"legacy_val_is_test": True},
        "muses": {"form": "png", "legacy_unnormalized": muses, "legacy_void_as_road": True},
    }


_OLD = _read_as("plain", "anyseg")
"""AnySeg's code and CMNeXt's ask for a torchvision whose resizing had no wider filter yet."""
_NEW = _read_as("antialias", "robustseg")
"""RobustSeg's asks for one that has it."""


@dataclass(frozen=True, slots=True)
class System:
    """A published system, as its code saves networks and scores them."""

    title: str
    layouts: tuple[str, ...]
    """Namings of its files, of `models.layouts`."""
    architecture: str = "m_segformer"
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture, as the released code computes."""
    missing: str = "skip"
    """How its tables represent a missing sensor: `skip` or `zero`."""
    read_as: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


SYSTEMS: Mapping[str, System] = {
    "anyseg": System("AnySeg (arXiv 2411.17141)", ("m-segformer",), read_as=_OLD),
    "robustseg": System("RobustSeg (arXiv 2505.12861)", ("m-segformer",), read_as=_NEW),
    "rmmss": System("RMMSS (arXiv 2505.12861v2)", ("m-segformer",), read_as=_NEW),
    "cmnext": System(
        "CMNeXt (arXiv 2303.01480)",
        ("cmnext",),
        architecture="cmnext",
        network={"legacy_scramble": True},
        missing="zero",
        read_as=_OLD,
    ),
    "segformer": System("SegFormer (arXiv 2105.15203)", ("nvlabs", "hub")),
}


@dataclass(frozen=True, slots=True)
class Imported:
    """What was made of a file."""

    spec: ModelSpec
    report: ImportReport


def import_official(
    source: Path | str,
    out: Path,
    *,
    system: str,
    kind: str,
    modalities: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    missing: str = "",
    options: Mapping[str, Any] | None = None,
) -> Imported:
    """Write a published network as a checkpoint of ours, which says how its data are read.

    Nothing of the file is executed, and `out` is there whole or not at all.

    Args:
        source: the published file, or OWNER/NAME on the hub.
        out: the checkpoint; never one that is there.
        system: of `SYSTEMS`.
        kind: the data set that it was trained on: classes, palette and encodings are its.
        modalities: what it was trained on, in its order; empty: all of the data set.
        size: (H, W) of the input; None: that of the data set's published figures.
        missing: how its tables represent a missing sensor, skip or zero; empty: as the system's.
        options: of the data set, over those of the papers.

    Raises:
        RobustsegError: an unknown word, a file that cannot be read, that is ours already, of
            another layout, of no backbone here, with a tensor too many or too few, with other
            classes than the data set, or `out` is there or cannot be written.
    """
    if system not in SYSTEMS:
        raise RobustsegError(f"no system called {system!r}; {did_you_mean(system, SYSTEMS)}")
    wanted, collection = SYSTEMS[system], _collection(kind)
    if out.exists():
        raise RobustsegError(f"{out} is there already; move it away, or choose another --out")
    file = PublicWeights(hub.locate(source))
    layout = _layout(file, system)
    classes, width = file.head_size()
    _expect_classes(file.path, classes, kind)
    names = _modalities(file, collection, kind, modalities, system)
    given = {**wanted.read_as.get(kind, {}), **(options or {})}
    encodings = collection.encodings_with(given, names)
    spec = checkpoint.make_spec(
        {
            "modalities": names,
            "classes": collection.classes.names,
            "palette": collection.classes.palette,
            "architecture": wanted.architecture,
            "options": wanted.network,
            "backbone": file.backbone(),
            "size": size or collection.protocol_size,
            "fusion": "mean",
            "head_width": width,
            "encodings": encodings,
            "channels": checkpoint.channel_numbers(names, encodings),
            "data": DataSpec(
                kind=kind, split="val", options=given, missing=missing or wanted.missing
            ),
            "trained": True,
            "provenance": f"{wanted.title}: {visible(file.path.name)} (SHA-256 "
            f"{_digest(file.path)[:16]}), imported as {layout}",
        },
        source=f"network of {file.path}",
    )
    model = checkpoint.untrained(spec)
    report = weights.import_weights(file, model, head="need")
    checkpoint.save(out, model)
    return Imported(spec, report)


def _collection(kind: str) -> type[Collection]:
    """The class of a public data set, which knows its classes without a look at its files."""
    collection = datasets.load(kind)
    if not issubclass(collection, Collection):
        raise RobustsegError(
            f"kind is {kind!r}, of which only the content tells the classes; give one of "
            f"{_public()}"
        )
    return collection


def _layout(file: PublicWeights, system: str) -> str:
    """The naming of a file, if it is one of the system's.

    Raises:
        RobustsegError: it is another system's, or of no layout that is known.
    """
    allowed, found = SYSTEMS[system].layouts, layouts.whole(file.names)
    if same := [layout for layout in allowed if layout in found]:
        return same[0]
    if not found:
        raise RobustsegError(
            f"{file.path} is of no layout that is known: {layouts.told(file.names)}; give the "
            "official file, or take away what is not the network's"
        )
    if found == ["mit"]:
        raise RobustsegError(
            f"{file.path} is {layouts.LAYOUTS['mit'].title}, and has no head; begin a training "
            "with it (network.init)"
        )
    its = layouts.LAYOUTS[found[-1]]
    others = [name for name, other in SYSTEMS.items() if its.name in other.layouts]
    raise RobustsegError(
        f"{file.path} is laid out as {its.title}, and --as {system} means "
        f"{layouts.LAYOUTS[allowed[0]].title}; import it --as {' or '.join(others)}"
    )


def _expect_classes(path: Path, count: int, kind: str) -> None:
    want = len(datasets.load(kind).classes.names)
    if count == want:
        return
    counts = {name: len(datasets.load(name).classes.names) for name in _public()}
    same = [name for name, number in counts.items() if number == count]
    way_out = f"give --kind {' or '.join(same)}" if same else f"known are {counts}"
    raise RobustsegError(
        f"{path} has {count} classes and {kind} has {want}, so it was trained on something else; "
        f"{way_out}"
    )


def _public() -> list[str]:
    """Data sets that know their classes without a look at their files."""
    return [name for name in datasets.available() if issubclass(datasets.load(name), Collection)]


def _modalities(
    file: PublicWeights, collection: type[Collection], kind: str, asked: Sequence[str], system: str
) -> tuple[str, ...]:
    """What the network was trained on, in the order of its columns.

    Only CMNeXt's tensors tell how many: one encoder serves all sensors of the others.
    """
    if system == "segformer":
        if asked and tuple(asked) != ("rgb",):
            raise RobustsegError(f"modalities are {', '.join(asked)}; SegFormer knows rgb alone")
        return ("rgb",)
    if strange := [name for name in asked if name not in collection.known]:
        raise RobustsegError(
            f"{kind} has no modality {strange[0]!r}; it has {', '.join(collection.known)}"
        )
    names = tuple(asked or collection.known)
    if system == "cmnext" and (count := 1 + file.others()) != len(names):
        raise RobustsegError(
            f"{file.path} was trained on {count} sensors, and {', '.join(names)} are {len(names)}; "
            f"say which with --modalities, rgb first, of {', '.join(collection.known)}"
        )
    if system == "cmnext" and names[0] != "rgb":
        raise RobustsegError(
            f"modalities begin with {names[0]}, and CMNeXt's full branch is that of rgb, its first "
            "sensor; give --modalities rgb first, then the others in the order of its training"
        )
    return names


def _digest(path: Path) -> str:
    return sha256(path).hexdigest()
