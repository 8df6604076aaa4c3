"""Embeddings of a vision-language model, made once for each sample, ahead of training.

Any2Seg's teacher is LanguageBind; here it is any CLIP in the layout of `transformers`, one image
tower for all sensors. RECONSTRUCTED: how depth, events and returns are shown to it is published
nowhere. It gets the picture that people get (as in reports), the whole scene squeezed to a square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.datasets import Dataset, Sample
from robustseg_core.engines.eager import pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.frames import picture
from robustseg_core.learn.embeddings import Embeddings
from robustseg_core.models import hub
from robustseg_core.storage.budget import parse_json, read_json, read_text

PROMPT = "a photo of a {}"
"""What stands around the name of a class."""
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's own training pictures; those in preprocessor_config.json count."""


def embed(
    dataset: Dataset,
    model: Path,
    *,
    captions: Mapping[str, str] | None = None,
    batch: int = 32,
    device: str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Embeddings:
    """Embeddings of all images of a data set, of its class names, and of captions.

    Args:
        dataset: read once, in its order.
        model: folder of a CLIP in `transformers` layout.
        captions: sample -> what it shows, in words.
        batch: samples at once.
        device: auto, cpu or cuda.
        on_progress: called with (samples done, samples in all).

    Raises:
        RobustsegError: `transformers` is not installed, the folder holds no CLIP, a sample cannot
            be read, or no caption is of any sample.
    """
    clip = Clip(model, device)
    ids: list[str] = []
    images = np.zeros((len(dataset), len(dataset.modalities), clip.width), np.float32)
    for start in range(0, len(dataset), batch):
        rows = range(start, min(start + batch, len(dataset)))
        samples = [dataset[row] for row in rows]
        ids += [sample.id for sample in samples]
        where = [
            (row, column, name)
            for row in range(len(samples))
            for column, name in enumerate(dataset.modalities)
            if name in samples[row].images
        ]
        pictures = [picture_of(samples[row], name, dataset.encodings) for row, _, name in where]
        for (row, column, _), one in zip(where, clip.images(pictures), strict=True):
            images[start + row, column] = one
        on_progress(rows[-1] + 1, len(dataset))
    text = None
    if captions is not None:
        text = np.zeros((len(ids), clip.width), np.float32)
        told = [row for row, name in enumerate(ids) if captions.get(name)]
        if not told:
            raise RobustsegError(
                f"none of the {len(captions)} captions is of a sample of this data, whose first is "
                f"{ids[0]!r}; give a JSON file of sample: caption"
            )
        text[told] = clip.texts([captions[ids[row]] for row in told])
    names = [PROMPT.format(name) for name in dataset.classes.names]
    return Embeddings(
        source=str(model),
        ids=tuple(ids),
        modalities=tuple(dataset.modalities),
        classes=tuple(dataset.classes.names),
        fingerprint=dataset.fingerprint(),
        model=model.resolve().name,
        images=images,
        class_text=clip.texts(names),
        text=text,
    )


def read_captions(path: Path) -> dict[str, str]:
    """Sample -> caption, of a JSON file.

    Raises:
        RobustsegError: it cannot be read, or holds anything else.
    """
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise RobustsegError(f"cannot read {path}: {error}; give a JSON file") from None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise RobustsegError(f'{path} holds no captions; expected {{"SAMPLE": "what it shows"}}')
    return found


def picture_of(
    sample: Sample, modality: str, encodings: Mapping[str, Mapping[str, Any]]
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of one sensor, as people are shown it; of other than three channels the mean
    in gray."""
    image = sample.images[modality]
    if len(image) != 3:
        image = np.repeat(image.mean(0, keepdims=True), 3, axis=0)
        encodings = {**encodings, modality: {"representation": "gray"}}
    drawn = picture(replace(sample, images={modality: image}), encodings)
    assert drawn is not None
    return drawn


class Clip:
    """A CLIP of `transformers`, from a folder; nothing is fetched, and nothing of it is executed.

    Raises:
        RobustsegError: `transformers` is not installed, or the folder holds no CLIP.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        _expect_clip(folder)
        transformers = hub.transformers()
        with hub.reading(folder, "CLIP", _GIVE):
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(
                folder, local_files_only=True
            )
            model, said = transformers.CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        if missing := hub.first_missing(said):
            raise RobustsegError(
                f"{folder} lacks weights of a CLIP (the first is {missing}); {_GIVE}"
            )
        self._device = pick_device(device)
        self._model: Any = model.eval().to(self._device)
        self._side = int(self._model.config.vision_config.image_size)
        self._longest = int(self._model.config.text_config.max_position_embeddings)
        mean, std = _levels(folder)
        self._mean = torch.tensor(mean, device=self._device).view(3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(3, 1, 1)
        self.width = int(self._model.config.projection_dim)
        """D."""

    @torch.inference_mode()
    def images(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, D), of length 1, of n pictures (H, W, 3)."""
        if not pictures:
            return np.zeros((0, self.width), np.float32)
        pixels = torch.stack([self._fitted(one) for one in pictures])
        seen = self._model.vision_model(pixel_values=(pixels - self._mean) / self._std)
        return _unit(self._model.visual_projection(seen.pooler_output))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D), of length 1; what is too long for the model is cut off."""
        parts = []
        for start in range(0, len(texts), 64):
            words = self._tokenizer(
                list(texts[start : start + 64]),
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            ).to(self._device)
            read = self._model.text_model(
                input_ids=words["input_ids"], attention_mask=words["attention_mask"]
            )
            parts.append(_unit(self._model.text_projection(read.pooler_output)))
        return np.concatenate(parts)

    def _fitted(self, drawn: NDArray[np.uint8]) -> Tensor:
        """(3, side, side) in [0, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(drawn)).to(self._device)
        pixels = pixels.permute(2, 0, 1)[None].float() / 255
        side = (self._side, self._side)
        return F.interpolate(pixels, side, mode="bicubic", antialias=True)[0].clamp(0, 1)


_GIVE = "give the folder of a CLIP checkpoint (config.json with model_type clip, model.safetensors)"


def _expect_clip(folder: Path) -> None:
    """Nothing, if a folder says that it holds a CLIP.

    Raises:
        RobustsegError: it does not.
    """
    try:
        config = parse_json(read_text(folder / "config.json"))
    except (OSError, ValueError, RobustsegError) as error:
        why = getattr(error, "strerror", None) or error
        raise RobustsegError(
            f"{folder} has no config.json that can be read ({why}); {_GIVE}"
        ) from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise RobustsegError(f"{folder} holds a model of type {kind!r}, not 'clip'; {_GIVE}")


def _levels(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the model's pictures."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return _MEAN, _STD
    try:
        told = parse_json(read_text(path))
        mean, std = (
            np.array(told.get(key, usual), np.float64).reshape(3)
            for key, usual in (("image_mean", _MEAN), ("image_std", _STD))
        )
        if not (np.isfinite(mean).all() and (std > 0).all()):
            raise ValueError(f"mean {mean}, deviation {std}")
    except (OSError, ValueError, TypeError, AttributeError, RobustsegError) as error:
        raise RobustsegError(f"{path} cannot be used ({error}); {_GIVE}") from None
    return mean.tolist(), std.tolist()


def _unit(rows: Tensor) -> NDArray[np.float32]:
    made: NDArray[np.float32] = F.normalize(rows.float(), dim=1).cpu().numpy()
    return made
