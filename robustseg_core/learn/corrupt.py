"""Corruption training: now and then a sensor of a sample is broken, as robots' sensors break.

Whole sensors that are gone are modality dropout's affair (`subsets.draw`); these are the faults
that a health monitor may let through, and that the network must then see through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from robustseg_core import modalities
from robustseg_core.config import Strict, parse
from robustseg_core.errors import did_you_mean
from robustseg_core.learn.shipped import held_out


def available(modality: str | None = None) -> list[str]:
    """Names of the corruptions of a modality (None: of all modalities)."""
    kinds = modalities.available() if modality is None else [modality]
    return sorted({fault for kind in kinds for fault in modalities.corruptions_of(kind)})


def possible(modality: str, options: Mapping[str, Any]) -> list[str]:
    """Of these, those that make sense for images that are encoded with these options.

    In the pictures that a collection comes with (the options have a `representation`), there are no
    metres and no counts to change.
    """
    known = modalities.corruptions_of(modality)
    return sorted(f for f in known if not (known[f].native and "representation" in options))


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to the image of a sensor."""

    fault: str
    """Name of the corruption."""
    quality: float
    """What the network is told of the sensor, in [0, 1] as health scores are: 1 - strength, or 1
    where the damage is kept from it."""


class CorruptConfig(Strict):
    """How often sensors break in training, and how.

    `salt_pepper`, `gaussian_noise` and `pixel_drop` are also what the NM and RMM protocols measure
    with; leave them out where these are to stay unseen. No recipe trains with those of
    `config/train/held_out_faults.yaml`: one that names them is refused.
    """

    p: float = Field(0.0, ge=0, le=1, description="Probability, for each sensor of each sample.")
    everywhere: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability, for each sample, that all its sensors break at once: half of "
        "these times of one fault, the others each of its own; of one strength.",
    )
    faults: Literal["all"] | tuple[str, ...] = Field(
        "all",
        description="Names to draw from, evenly, of those that the sensor can have; all: but for "
        "those that are held out (config/train/held_out_faults.yaml).",
    )
    strength: tuple[float, float] = Field(
        (0.0, 1.0), description="Drawn evenly; 0 is the mildest form of a fault, 1 the worst."
    )
    told: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the broken sensors whose quality the network is told (1 - strength), "
        "as a health monitor would; of the others it is told that all is well.",
    )

    @field_validator("faults", mode="before")
    @classmethod
    def _words(cls, faults: Any) -> Any:
        """`faults=black,holes` on a command line is one word."""
        return faults.split(",") if isinstance(faults, str) and faults != "all" else faults

    @field_validator("faults")
    @classmethod
    def _known(cls, faults: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in () if faults == "all" else faults:
            if name not in available() and name in held_out():
                raise ValueError(f"{name!r} is held out of training; leave it out")
            if name not in available():
                raise ValueError(
                    f"no corruption called {name!r}; {did_you_mean(name, available())}"
                )
        return faults

    @field_validator("strength")
    @classmethod
    def _ascends(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= pair[0] <= pair[1] <= 1:
            raise ValueError(f"{pair[0]:g} to {pair[1]:g} is no range within 0 to 1")
        return pair


def corrupt(
    images: Mapping[str, NDArray[np.float32]],
    rng: np.random.Generator,
    config: CorruptConfig,
    *,
    encodings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Damage]]:
    """`images` with some of them damaged: never all of several, but where `everywhere` says so.

    Args:
        images: modality -> (C, H, W), encoded; they stay as they are.
        rng: of everything.
        config: how often, and what.
        encodings: modality -> options of its encoding, where they are not the usual ones.

    Returns:
        The images, and modality -> what was done to it.
    """
    done: dict[str, Damage] = {}
    made = dict(images)
    told = encodings or {}
    if config.everywhere and rng.random() < config.everywhere:
        return _everywhere(images, rng, config, told)
    if not config.p:
        return made, done
    hit = [name for name in images if rng.random() < config.p]
    if len(hit) == len(images) > 1:
        hit.pop(int(rng.integers(len(hit))))
    for name in hit:
        options = told.get(name, {})
        choice = drawn_from(name, options, config)
        if not choice:
            continue
        fault = choice[int(rng.integers(len(choice)))]
        strength = float(rng.uniform(*config.strength))
        made[name] = damaged(name, fault, images[name], rng, strength=strength, options=options)
        done[name] = _damage(fault, strength, rng, config)
    return made, done


def _everywhere(
    images: Mapping[str, NDArray[np.float32]],
    rng: np.random.Generator,
    config: CorruptConfig,
    encodings: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Damage]]:
    """As `corrupt`, with all sensors broken: of one fault, or each of its own."""
    choices = {name: drawn_from(name, encodings.get(name, {}), config) for name in images}
    common = [f for f in available() if all(f in choice for choice in choices.values())]
    strength = float(rng.uniform(*config.strength))
    if common and rng.random() < 0.5:
        fault = common[int(rng.integers(len(common)))]
        choices = {name: [fault] for name in choices}
    made, done = dict(images), {}
    for name, choice in choices.items():
        if not choice:
            continue
        fault = choice[int(rng.integers(len(choice)))]
        options = encodings.get(name, {})
        made[name] = damaged(name, fault, images[name], rng, strength=strength, options=options)
        done[name] = _damage(fault, strength, rng, config)
    return made, done


def drawn_from(modality: str, options: Mapping[str, Any], config: CorruptConfig) -> list[str]:
    """The corruptions that can happen to a sensor, each as likely as any other."""
    if config.faults == "all":
        return [fault for fault in possible(modality, options) if fault not in held_out()]
    return [fault for fault in possible(modality, options) if fault in config.faults]


def _damage(fault: str, strength: float, rng: np.random.Generator, config: CorruptConfig) -> Damage:
    """What the network is told of it."""
    told = float(rng.random()) < config.told
    return Damage(fault, 1 - strength if told else 1.0)


def damaged(
    modality: str,
    fault: str,
    image: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    strength: float,
    options: Mapping[str, Any] | None = None,
) -> NDArray[np.float32]:
    """A copy of one (C, H, W) image with one fault in it, of a strength in [0, 1]."""
    kind = modalities.corruptions_of(modality)[fault]
    amount = kind.mild + strength * (kind.worst - kind.mild)
    changed = kind.apply(image, amount, rng, _encoding(modality, options or {}))
    return np.ascontiguousarray(changed, np.float32)


def _encoding(modality: str, options: Mapping[str, Any]) -> Strict | None:
    """How the modality is encoded; None: it has no plug-in."""
    if modality not in modalities.available():
        return None
    usual = _usual(modality)
    if not options:
        return usual
    known = {key: value for key, value in options.items() if key in type(usual).model_fields}
    return parse(type(usual), known, where=f"encodings.{modality}")


@cache
def _usual(modality: str) -> Strict:
    return modalities.load(modality).Encoding()
