"""What training has seen of a drive's faults, declared: without it robustness is misread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from robustseg_core import config, faults
from robustseg_core.config import parse
from robustseg_core.faults._base import Graded
from robustseg_core.learn import corrupt
from robustseg_core.learn.shipped import held_out, known_recipes
from robustseg_core.types import ModelSpec


class Exposure(str, Enum):
    """Whether training has damaged pictures of a sensor as a fault does."""

    TRAINED = "trained"
    HELD_OUT = "held out"
    """No recipe may train with it (`config/train/held_out_faults.yaml`)."""
    NEVER = "never"
    """Training has no such damage, or the recipe does not draw it."""
    UNKNOWN = "unknown"
    """The weights name no recipe that is known here."""


def exposure_of(spec: ModelSpec, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """fault -> sensor -> what the recipe that the weights name says of it.

    A recipe is known by its name in the provenance of the weights; what a command line changed of
    `corrupt` is not in there. Adaptation and an earlier stage are not looked at.

    Args:
        spec: of the network.
        names: of faults.
    """
    drawn = _drawn(spec)
    found: dict[str, dict[str, str]] = {}
    for name in names:
        kind = faults.load(name)
        look = kind.looks_like if issubclass(kind, Graded) and kind.looks_like else name
        found[name] = {
            sensor: _of(name, look, sensor, spec, drawn).value
            for sensor in faults.reached(name)
            if sensor in spec.modalities
        }
    return found


def _of(
    name: str, look: str, sensor: str, spec: ModelSpec, drawn: Mapping[str, frozenset[str]] | None
) -> Exposure:
    if {name, look} & held_out():
        return Exposure.HELD_OUT
    if look not in corrupt.possible(sensor, spec.encodings.get(sensor, {})):
        return Exposure.NEVER
    if drawn is None:
        return Exposure.UNKNOWN
    return Exposure.TRAINED if look in drawn.get(sensor, ()) else Exposure.NEVER


def _drawn(spec: ModelSpec) -> dict[str, frozenset[str]] | None:
    """sensor -> the corruptions that its recipe draws from; None: no such recipe."""
    if not spec.trained:
        return {}
    words = {word.strip() for word in spec.provenance.replace(";", ",").split(",")}
    recipes = [path for name, path in known_recipes().items() if name in words]
    if not recipes:
        return None
    tree = config.read_file(recipes[0]).get("corrupt") or {}
    told = parse(corrupt.CorruptConfig, tree, where=f"{recipes[0].stem}: corrupt")
    if not told.p and not told.everywhere:
        return {}
    return {
        name: frozenset(corrupt.drawn_from(name, spec.encodings.get(name, {}), told))
        for name in spec.modalities
    }
