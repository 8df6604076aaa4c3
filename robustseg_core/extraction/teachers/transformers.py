"""A semantic segmentation checkpoint of `transformers`, from a folder or from the hub.

Its picture processor is not asked, for most of them need torchvision: what it would do (size, mean,
deviation, order of the colors) stands in its preprocessor_config.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.engines.eager import pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.teachers._pixels import IMAGENET, PixelTeacher, camera_spec
from robustseg_core.models import hub
from robustseg_core.storage.budget import parse_json, read_text

USUAL = (512, 512)
"""(H, W) where nobody tells another size."""
_GIVE = "give one that `AutoModelForSemanticSegmentation` reads, e.g. a SegFormer"


class TransformersTeacher(PixelTeacher):
    """SegFormer, UperNet, MobileViT, BEiT, DPT, ...: what gives (B, K, h, w) scores.

    Nothing in the folder is executed. Of a repository on the hub the weights and two files of
    settings are fetched once, and taken from the cache from then on.

    Args:
        named: the folder, or OWNER/NAME[@REVISION] on the hub.
        device: as `pick_device`.
        size: (H, W) of its pictures; None: the processor's.

    Raises:
        RobustsegError: `transformers` is not installed, or there is no such checkpoint.
    """

    def __init__(
        self, named: str, *, device: str = "auto", size: tuple[int, int] | None = None
    ) -> None:
        self._device = pick_device(device)
        folder = hub.folder(named)
        told = _settings(folder / "config.json", needed=True)
        names = told.get("id2label")
        if not isinstance(names, Mapping) or len(names) < 2:
            raise RobustsegError(f"{folder / 'config.json'} names no classes (id2label); {_GIVE}")
        try:
            ordered = [str(names[key]) for key in sorted(names, key=int)]
        except ValueError:
            raise RobustsegError(
                f"{folder / 'config.json'} has an id2label whose ids are no numbers; {_GIVE}"
            ) from None
        seen = _settings(folder / "preprocessor_config.json", needed=False)
        notices = (
            []
            if seen
            else [f"{named} has no preprocessor_config.json: ImageNet's mean and deviation serve"]
        )
        self._flips = bool(seen.get("do_flip_channel_order", False))
        self._folder = folder
        self._model: Any = None
        spec = camera_spec(named, ordered, size or _size(seen), _levels(seen, folder))
        super().__init__(named, spec, _digest(folder, spec.size), notices)

    def logits(self, picture: NDArray[np.float32]) -> Tensor:
        """(1, K, h, w) of (1, 3, H, W)."""
        if self._model is None:
            self._model = _loaded(self._folder).eval().to(self._device)
        if self._flips:
            picture = picture[:, ::-1]
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device)
        try:
            found: Tensor = self._model(pixel_values=pixels).logits
        except Exception as error:  # of a size that it cannot take, these networks raise anything
            high, wide = pixels.shape[2:]
            text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RobustsegError(
                f"{self.name} makes nothing of a picture of {wide}x{high} ({text}); give the size "
                "that it was trained with (--teacher-size)"
            ) from None
        return found


def _loaded(folder: Path) -> Any:
    """The network.

    Raises:
        RobustsegError: it is none for segmentation, lacks weights, or cannot be read.
    """
    transformers = hub.transformers()
    with hub.reading(folder, "segmentation checkpoint", _GIVE):
        model, said = transformers.AutoModelForSemanticSegmentation.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    if missing := hub.first_missing(said):
        raise RobustsegError(
            f"{folder} lacks weights of its network (the first is {missing}), so it would "
            f"guess; {_GIVE}, trained for segmentation"
        )
    return model


def _settings(path: Path, *, needed: bool) -> Mapping[str, Any]:
    """A JSON object; empty where there is none and none is needed.

    Raises:
        RobustsegError: it cannot be read.
    """
    if not needed and not path.is_file():
        return {}
    try:
        found = parse_json(read_text(path))
        if not isinstance(found, Mapping):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RobustsegError) as error:
        why = getattr(error, "strerror", None) or error
        raise RobustsegError(f"{path} cannot be read ({why}); {_GIVE}") from None
    return found


def _size(seen: Mapping[str, Any]) -> tuple[int, int]:
    """(H, W) of the pictures that the processor makes; of a shortest edge a square."""
    told = seen.get("size")
    if isinstance(told, Mapping):
        edge = told.get("shortest_edge", USUAL[0])
        sides = (told.get("height", edge), told.get("width", edge))
    else:
        sides = (told, told)
    high, wide = (side if isinstance(side, int) and side > 0 else USUAL[0] for side in sides)
    return high, wide


def _levels(seen: Mapping[str, Any], folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation, of a picture in [0, 1].

    Raises:
        RobustsegError: they are no three numbers each.
    """
    mean, std = IMAGENET if not seen else ((0.0,) * 3, (1.0,) * 3)
    factor = float(seen.get("rescale_factor", 1 / 255)) if seen.get("do_rescale", True) else 1.0
    if seen.get("do_normalize", bool(seen.get("image_mean"))):
        mean, std = seen.get("image_mean", IMAGENET[0]), seen.get("image_std", IMAGENET[1])
    try:
        shift, scale = (np.array(x, np.float64).reshape(3) / (255 * factor) for x in (mean, std))
        if not (np.isfinite(shift).all() and (scale > 0).all()):
            raise ValueError(f"mean {mean}, deviation {std}")
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise RobustsegError(
            f"{folder / 'preprocessor_config.json'} cannot be used ({error}); {_GIVE}"
        ) from None
    return shift.tolist(), scale.tolist()


def _digest(folder: Path, size: tuple[int, int]) -> str:
    """Of settings, weights and the size of its pictures.

    Raises:
        RobustsegError: there are no weights.
    """
    total = hashlib.sha256(repr(size).encode())
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    if not files:
        raise RobustsegError(f"{folder} holds no weights ({', '.join(hub.FILES)}); {_GIVE}")
    for name in ("config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            files.append(folder / name)
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(1 << 22):
                total.update(part)
    return total.hexdigest()
