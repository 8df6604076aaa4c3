"""What `robustseg export` writes: one file that a node runs, and that says all about itself.

A zip archive, nothing in it packed: `about.json` (engine, precision, versions, the parity report),
`weights.safetensors` (a checkpoint with its spec, as `models.checkpoint` has it, its norms folded),
and the graphs, as ONNX. A machine without the engine's runtime runs the checkpoint instead.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustseg_core.engines.precision import FP32, LEAST
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.network import Network
from robustseg_core.storage.output_folder import replacing
from robustseg_core.types import ModelSpec
from robustseg_core.version import __version__

FORMAT = "robustseg-engine/1"
SUFFIX = checkpoint.EXPORTED
"""Of its name, by convention."""
ABOUT, WEIGHTS, GRAPH = "about.json", "weights.safetensors", ".onnx"
_MOST_FILES, _MOST_BYTES = 80, 4 << 30
_MOST_ABOUT = 4 << 20


@dataclass(frozen=True)
class Exported:
    """A network, and what an engine needs to run it."""

    model: Network
    engine: str = ""
    """The engine that it was exported for; empty: it is a plain checkpoint."""
    graphs: Mapping[str, bytes] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    precision: str = FP32
    """Of the graphs, see `engines.precision`."""

    @property
    def spec(self) -> ModelSpec:
        """The network's."""
        return self.model.spec


def write(
    path: Path,
    model: Network,
    graphs: Mapping[str, bytes],
    *,
    engine: str,
    precision: str,
    parity: Mapping[str, Any],
) -> None:
    """Write an artifact; `path` is replaced in one piece or not at all.

    Args:
        path: ends in `SUFFIX` by convention.
        model: the network, folded.
        graphs: name -> ONNX.
        engine: what runs them.
        precision: of the graphs, see `engines.precision`.
        parity: how its labels compare with those of PyTorch; JSON.

    Raises:
        RobustsegError: it cannot be written.
    """
    about = {
        "format": FORMAT,
        "engine": engine,
        "precision": precision,
        "graphs": sorted(graphs),
        "robustseg": __version__,
        "machine": platform.processor() or platform.machine(),
        "parity": parity,
    }
    try:
        with tempfile.TemporaryDirectory() as folder, replacing(path) as unfinished:
            weights = Path(folder) / WEIGHTS
            checkpoint.save(weights, model)
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(ABOUT, json.dumps(about, indent=1) + "\n")
                archive.write(weights, WEIGHTS)
                for name, graph in graphs.items():
                    archive.writestr(name + GRAPH, graph)
    except OSError as error:
        raise RobustsegError(f"cannot write {path}: {error}; choose a writable folder") from None


def is_artifact(path: Path) -> bool:
    """Whether a file is an archive with an account of an export in it."""
    if not os.path.isfile(path):  # of a device, zipfile would look for the end without end
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return ABOUT in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def load(path: Path, size: tuple[int, int] | None = None) -> Exported:
    """What is in an artifact, or in a plain checkpoint.

    Args:
        path: either.
        size: (H, W) of the network's input, if not the checkpoint's; graphs have one size.

    Raises:
        RobustsegError: it is neither, of another version, or damaged, or cannot be of that size.
    """
    if not is_artifact(path):
        return Exported(checkpoint.load(path, size=size))
    try:
        with zipfile.ZipFile(path) as archive:
            _expect_small(path, archive)
            about = json.loads(archive.read(ABOUT))
            _expect_ours(path, about)
            with tempfile.TemporaryDirectory() as folder:
                weights = Path(folder) / path.name
                weights.write_bytes(archive.read(WEIGHTS))
                model = checkpoint.load(weights)
            graphs = {name: archive.read(name + GRAPH) for name in about["graphs"]}
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise RobustsegError(f"{path} is damaged ({error}); export it again") from None
    if size is not None and tuple(size) != model.spec.size:
        (height, width), (high, wide) = model.spec.size, size
        raise RobustsegError(
            f"{path} was exported for an input of {width}x{height}, wanted is {wide}x{high}; "
            f"export its checkpoint again with --size {wide}x{high}"
        )
    return Exported(model, about["engine"], graphs, about, about.get("precision", FP32))


def _expect_small(path: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    size = sum(entry.file_size for entry in entries)
    told = next(entry.file_size for entry in entries if entry.filename == ABOUT)
    if packed or len(entries) > _MOST_FILES or size > _MOST_BYTES or told > _MOST_ABOUT:
        raise RobustsegError(
            f"{path} has {len(entries)} files of {size} bytes{', packed' if packed else ''}; "
            f"expected at most {_MOST_FILES} of {_MOST_BYTES}, as `robustseg export` writes them"
        )


def _expect_ours(path: Path, about: Any) -> None:
    known = isinstance(about, dict) and about.get("format")
    if known != FORMAT:
        raise RobustsegError(
            f"{path} is of format {known!r}; this version reads {FORMAT!r}; export it again"
        )
    names = about.get("graphs")
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not fits or not isinstance(about.get("engine"), str):
        raise RobustsegError(f"{path} does not name its engine and its graphs; export it again")
    if about.get("precision", FP32) not in tuple(LEAST):  # it may be of any type
        raise RobustsegError(
            f"{path} has graphs of precision {about['precision']!r}; expected one of "
            f"{', '.join(LEAST)}; export it again"
        )
