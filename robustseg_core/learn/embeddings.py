"""The cache of `robustseg embed`: what a vision-language model makes of a data set, in one file.

One safetensors file: `images` (n, M, D), zeros where a sensor saw nothing; `text` (n, D) if there
were captions, zeros where one is missing; `class_text` (K, D). Which row is which sample's, and of
which data they are, stands in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.storage import tensor_file
from robustseg_core.storage.budget import parse_json

FORMAT = "robustseg-embeddings/1"
_AGAIN = "make it again with `robustseg embed`"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of all samples of a data set."""

    source: str
    """Where they are from, for sentences: the file."""
    ids: tuple[str, ...]
    """Of the samples, in the order of the rows."""
    modalities: tuple[str, ...]
    """Columns of `images`."""
    classes: tuple[str, ...]
    fingerprint: str
    """That of the data set."""
    model: str
    """Which model made them, for people."""
    images: NDArray[np.float32]
    """(n, M, D)."""
    class_text: NDArray[np.float32]
    """(K, D)."""
    text: NDArray[np.float32] | None = None
    """(n, D); None: there were no captions."""

    @property
    def width(self) -> int:
        """D."""
        return int(self.images.shape[2])

    def rows(self) -> dict[str, int]:
        """Sample -> its row."""
        return {name: row for row, name in enumerate(self.ids)}

    def expect(self, dataset: Dataset) -> None:
        """Nothing, if they are of this data.

        Raises:
            RobustsegError: of other sensors, other classes or other samples.
        """
        for what, have, want in (
            ("sensors", self.modalities, dataset.modalities),
            ("classes", self.classes, dataset.classes.names),
        ):
            if tuple(have) != tuple(want):
                raise RobustsegError(
                    f"{self.source} has embeddings of the {what} {', '.join(have)}, and the data "
                    f"has {', '.join(want)}; {_AGAIN}, of the same {what}"
                )
        if self.fingerprint != dataset.fingerprint():
            raise RobustsegError(
                f"{self.source} has embeddings of other data ({len(self.ids)} samples) than "
                f"data.train names ({len(dataset)} samples); {_AGAIN}, of the same paths in the "
                "same order, with the same size and options"
            )

    def attached(self, sample: Sample, rows: Mapping[str, int]) -> Sample:
        """The sample with its embeddings; `rows` as `rows()` returns them.

        Raises:
            RobustsegError: there are none of it.
        """
        if sample.id not in rows:
            raise RobustsegError(f"{self.source} has no embeddings of {sample.id!r}; {_AGAIN}")
        row = rows[sample.id]
        own = dict(zip(self.modalities, self.images[row], strict=True))
        text = None if self.text is None else self.text[row]
        return replace(sample, embeddings=own, text=text)


def save(path: Path, made: Embeddings) -> None:
    """Write them to `path`, which is replaced in one piece or not at all.

    Raises:
        RobustsegError: it cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "ids": json.dumps(made.ids),
        "modalities": json.dumps(made.modalities),
        "classes": json.dumps(made.classes),
        "fingerprint": made.fingerprint,
        "model": made.model,
    }
    tensors = {"images": made.images, "class_text": made.class_text}
    if made.text is not None:
        tensors["text"] = made.text
    tensor_file.save(path, lambda file: save_file(tensors, file, metadata=metadata))


def load(path: Path | str) -> Embeddings:
    """The embeddings in `path`.

    Raises:
        RobustsegError: no such file, not one of `robustseg embed`, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise RobustsegError(
            f"{path} is no file; make it with `robustseg embed DATA --model PATH --out {path}`"
        )
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise RobustsegError(
                    f"{path} is of format {metadata.get('format', 'unknown')!r}, expected "
                    f"{FORMAT!r}; give a file of `robustseg embed`"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names = [_names(metadata[key]) for key in ("ids", "modalities", "classes")]
        fingerprint, model = metadata["fingerprint"], metadata["model"]
        images, classes, text = tensors["images"], tensors["class_text"], tensors.get("text")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise RobustsegError(f"{path} is damaged or no safetensors ({error}); {_AGAIN}") from None
    made = Embeddings(
        str(path), names[0], names[1], names[2], fingerprint, model, images, classes, text
    )
    _expect_shapes(made)
    return made


def _names(text: str) -> tuple[str, ...]:
    found = parse_json(text)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError("its names are no list")
    return tuple(found)


def _expect_shapes(made: Embeddings) -> None:
    """Nothing, if all is as long and as wide as it says, and finite.

    Raises:
        RobustsegError: names the tensor.
    """
    if made.images.ndim != 3:
        raise RobustsegError(
            f"{made.source} has images of {made.images.ndim} axes, expected sample, sensor and "
            f"number; {_AGAIN}"
        )
    n, m, k = len(made.ids), len(made.modalities), len(made.classes)
    wanted = {
        "images": (made.images, (n, m, made.width)),
        "class_text": (made.class_text, (k, made.width)),
    }
    if made.text is not None:
        wanted["text"] = (made.text, (n, made.width))
    for name, (tensor, shape) in wanted.items():
        if tensor.shape != shape or tensor.dtype != np.float32:
            have = "x".join(map(str, tensor.shape))
            raise RobustsegError(
                f"{made.source} has {name} of {have} {tensor.dtype}, expected "
                f"{'x'.join(map(str, shape))} float32; {_AGAIN}"
            )
        if not np.isfinite(tensor).all():
            raise RobustsegError(f"{made.source} has {name} with values not finite; {_AGAIN}")
