"""An ONNX file, as any framework exports one: one picture in, a score of each class out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core import config
from robustseg_core.engines.eager import pick_device
from robustseg_core.errors import RobustsegError, not_installed, what_is
from robustseg_core.extraction.teachers._pixels import IMAGENET, PixelTeacher, camera_spec
from robustseg_core.storage.budget import read_text
from robustseg_core.storage.digest import sha256
from robustseg_core.types import network_size

USUAL = (512, 512)
"""(H, W) where the file leaves it open."""
_KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
_GIVE = "export the network with one picture (1, 3, H, W) in and the scores (1, K, h, w) out"


class OnnxTeacher(PixelTeacher):
    """Runs in onnxruntime. The file's metadata may tell `classes` (or `names`), `mean` and `std`.

    Args:
        path: the file.
        device: as `pick_device`.
        size: (H, W) of its pictures, where the file leaves it open.
        classes: YAML list of names; wins over the metadata.

    Raises:
        RobustsegError: onnxruntime is not installed, the file cannot be read, has other inputs or
            outputs, or nobody tells its classes.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        size: tuple[int, int] | None = None,
        classes: Path | None = None,
    ) -> None:
        if not path.is_file():
            raise RobustsegError(f"{path} {what_is(path)}; give an ONNX file")
        self._session = _session(path, device)
        told = dict(self._session.get_modelmeta().custom_metadata_map)
        self._channels_last, open_size, self._dtype = _picture(self._session, path)
        if size is not None and open_size is not None and tuple(size) != open_size:
            raise RobustsegError(
                f"{path} takes pictures of {open_size[1]}x{open_size[0]} alone; leave the "
                "teacher's size out"
            )
        self._size = open_size or network_size(*(size or USUAL))
        names = _names(path, told, classes)
        mean, std, notices = _levels(path, told)
        if self._dtype is np.uint8:
            mean, std, notices = (0.0,) * 3, (1.0,) * 3, []
        spec = camera_spec(path.name, names, self._size, (mean, std))
        total = sha256(path)
        total.update(repr((self._size, names)).encode())
        self._count = len(names)
        super().__init__(path.name, spec, total.hexdigest(), notices)

    def logits(self, picture: NDArray[np.float32]) -> Tensor:
        """(1, K, h, w) of (1, 3, H, W).

        Raises:
            RobustsegError: what comes out is no score of each class.
        """
        if picture.shape[2:] != self._size:
            rows = cv2.resize(np.ascontiguousarray(picture[0].transpose(1, 2, 0)), self._size[::-1])
            picture = rows.transpose(2, 0, 1)[None].astype(np.float32)
        if self._dtype is np.uint8:
            picture = np.clip(np.rint(picture * np.float32(255)), 0, 255).astype(np.float32)
        if self._channels_last:
            picture = picture.transpose(0, 2, 3, 1)
        fed = {self._session.get_inputs()[0].name: np.ascontiguousarray(picture, self._dtype)}
        try:
            made = self._session.run(None, fed)
        except Exception as error:  # onnxruntime's own kinds
            text = " ".join(str(error).split())[:200]
            raise RobustsegError(f"{self.name} cannot be run ({text}); {_GIVE}") from None
        for one in made:
            found = np.asarray(one)
            if found.ndim != 4 or not np.issubdtype(found.dtype, np.floating):
                continue
            if found.shape[1] != self._count and found.shape[3] == self._count:
                found = found.transpose(0, 3, 1, 2)
            if found.shape[1] == self._count:
                return _before_softmax(torch.from_numpy(np.ascontiguousarray(found, np.float32)))
        shapes = ", ".join(f"{np.asarray(one).dtype} {np.asarray(one).shape}" for one in made)
        raise RobustsegError(
            f"{self.name} gives {shapes}, and {self._count} classes were told, so (1, "
            f"{self._count}, h, w) scores are expected; {_GIVE}, or give its --classes"
        )


def _before_softmax(found: Tensor) -> Tensor:
    """Logits, though the network may have ended in a softmax."""
    sums = found.sum(1)
    if bool((found >= 0).all()) and bool((sums - 1).abs().max() < 1e-2):
        return found.clamp(min=1e-8).log()
    return found


def _session(path: Path, device: str) -> Any:
    try:
        runtime: Any = import_module("onnxruntime")
    except ImportError:
        raise RobustsegError(not_installed("onnxruntime")) from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    wanted = ["CPUExecutionProvider"]
    if pick_device(device).type == "cuda":
        wanted.insert(0, "CUDAExecutionProvider")
    there = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        return runtime.InferenceSession(str(path), options, providers=there)
    except Exception as error:  # onnxruntime's own kinds
        text = " ".join(str(error).split())[:200]
        raise RobustsegError(f"{path} is no ONNX file that can be run ({text}); {_GIVE}") from None


def _picture(session: Any, path: Path) -> tuple[bool, tuple[int, int] | None, type[Any]]:
    """Whether channels come last, (H, W) or None where it is open, and the type of the numbers."""
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    last = len(shape) == 4 and shape[1] != 3 and shape[3] == 3
    if len(shape) != 4 or not (last or shape[1] == 3):
        told = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise RobustsegError(f"{path} takes {told}; {_GIVE}")
    if inputs[0].type not in _KINDS:
        raise RobustsegError(f"{path} takes {inputs[0].type}; expected {', '.join(_KINDS)}")
    high, wide = shape[1:3] if last else shape[2:]
    fixed = (high, wide) if isinstance(high, int) and isinstance(wide, int) else None
    return last, fixed, _KINDS[inputs[0].type]


def _names(path: Path, told: Mapping[str, str], classes: Path | None) -> list[str]:
    """The class names, in the order of their ids.

    Raises:
        RobustsegError: nobody tells them.
    """
    text = told.get("classes") or told.get("names") or ""
    if classes is None and not text:
        raise RobustsegError(
            f"{path} does not tell its classes (metadata `classes`); give them with --classes "
            "FILE, a YAML list of names"
        )
    source = f"the classes of {path}" if classes is None else str(classes)
    try:
        found = config.parse_yaml(text if classes is None else read_text(classes))
    except OSError as error:
        raise RobustsegError(f"cannot read {classes}: {error.strerror}") from None
    except Exception as error:
        raise RobustsegError(f"{source} are no YAML ({error}); give a list of names") from None
    if isinstance(found, str):
        found = [part.strip() for part in found.split(",")]
    if isinstance(found, Mapping):
        found = [found[key] for key in sorted(found)]
    if not isinstance(found, list) or len(found) < 2:
        raise RobustsegError(f"{source} are {str(found)[:80]!r}; give a list of two names or more")
    return [str(name) for name in found]


def _levels(
    path: Path, told: Mapping[str, str]
) -> tuple[Sequence[float], Sequence[float], list[str]]:
    if "mean" not in told or "std" not in told:
        return *IMAGENET, [f"{path.name} tells no mean and std: ImageNet's serve"]
    try:
        mean, std = (
            np.array(config.parse_yaml(f"[{told[key].strip(' []()')}]"), np.float64).reshape(3)
            for key in ("mean", "std")
        )
        if not (np.isfinite(mean).all() and (std > 0).all()):
            raise ValueError("not three numbers each, std above 0")
    except Exception as error:
        raise RobustsegError(
            f"mean {told['mean']!r} and std {told['std']!r} in {path} cannot be used ({error}); "
            "give three numbers each, of pictures in [0, 1]"
        ) from None
    if mean.max() > 1.5:  # of pictures in [0, 255]
        mean, std = mean / 255, std / 255
    return mean.tolist(), std.tolist(), []
