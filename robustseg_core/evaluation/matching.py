"""Weights and data must mean the same things before a number means anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from robustseg_core import modalities
from robustseg_core.datasets import Dataset
from robustseg_core.errors import RobustsegError
from robustseg_core.types import ModelSpec


def shared_modalities(spec: ModelSpec, dataset: Dataset, *, allow_missing: bool) -> tuple[str, ...]:
    """Modalities of the network that the data has, in the network's order.

    Raises:
        RobustsegError: none, or not all and `allow_missing` is False.
    """
    lacking = [name for name in spec.modalities if name not in dataset.modalities]
    shared = tuple(name for name in spec.modalities if name in dataset.modalities)
    have = ", ".join(dataset.modalities)
    if not shared:
        raise RobustsegError(
            f"the checkpoint knows {', '.join(spec.modalities)} and {dataset.name} has {have}: "
            "no sensor in common; use weights that were trained for these sensors"
        )
    if lacking and not allow_missing:
        raise RobustsegError(
            f"{dataset.name} has {have} but not {', '.join(lacking)}, which the checkpoint knows; "
            "allow missing modalities to evaluate the subsets of the others"
        )
    return shared


def expect_encodings(spec: ModelSpec, dataset: Dataset, shared: Sequence[str]) -> None:
    """Nothing, if the data is encoded as the network was told; what nobody states passes.

    Raises:
        RobustsegError: names the first modality and option that differ.
    """
    for name in shared:
        if not spec.encodings.get(name) or not dataset.encodings.get(name):
            continue
        ours, theirs = (_whole(name, tree[name]) for tree in (spec.encodings, dataset.encodings))
        for key in sorted(set(ours) | set(theirs)):
            if ours.get(key) != theirs.get(key):
                raise RobustsegError(
                    f"{name} of {dataset.name} is encoded with {key} {theirs.get(key)!r}, but the "
                    f"checkpoint expects {ours.get(key)!r}; extract the data with the "
                    "checkpoint's encodings, or allow other encodings"
                )


def _whole(name: str, encoding: Mapping[str, Any]) -> dict[str, Any]:
    """The encoding as JSON has it, with the defaults of the options that it leaves out."""
    if name in modalities.available():
        with suppress(RobustsegError):  # a public collection's own encoding stays as it is
            encoding = modalities.load(name)(encoding=encoding).encoding.model_dump(mode="json")
    return dict(json.loads(json.dumps(encoding)))
