"""`robustseg embed`: what a CLIP makes of samples, and why it does not."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustseg_core import datasets
from robustseg_core.cli.main import main
from robustseg_core.datasets import Dataset, Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import embeddings
from robustseg_core.learn.embed import PROMPT, Clip, embed, picture_of, read_captions
from support.learn_data import CLASSES, NAMES, make_shards
from support.tiny_clip import LONGEST, SIDE, WIDTH, make_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_shards(tmp_path_factory.mktemp("shards") / "a", 5)


def of(shards: Path) -> Dataset:
    return datasets.load("shards")([shards])


def test_every_image_of_every_sensor_and_every_class_gets_its_own_numbers(clip, shards) -> None:
    data = of(shards)
    seen: list[tuple[int, int]] = []
    made = embed(data, clip, batch=2, device="cpu", on_progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert (made.images.shape, made.class_text.shape) == ((5, 4, WIDTH), (3, WIDTH))
    assert made.text is None
    assert made.ids == tuple(data[k].id for k in range(5))
    assert (made.modalities, made.classes, made.model) == (NAMES, CLASSES.names, "tiny")
    np.testing.assert_allclose(np.linalg.norm(made.images, axis=2), 1, atol=1e-5)
    assert len(np.unique(made.images.reshape(20, -1).round(4), axis=0)) == 20
    alone = embed(data, clip, batch=5, device="cpu")
    np.testing.assert_allclose(alone.images, made.images, atol=1e-5)
    made.expect(data)


def test_the_towers_are_those_of_transformers(clip) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model, ours = CLIPModel.from_pretrained(clip), Clip(clip, "cpu")
    drawn = np.random.default_rng(0).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    pixels = (torch.from_numpy(drawn).permute(2, 0, 1) / 255 - ours._mean) / ours._std
    words = CLIPTokenizer.from_pretrained(clip)("a road", return_tensors="pt")
    with torch.no_grad():
        both = model(pixel_values=pixels[None], **words)
    np.testing.assert_allclose(ours.images([drawn]), both.image_embeds, atol=1e-5)
    np.testing.assert_allclose(ours.texts(["a road"]), both.text_embeds, atol=1e-5)
    assert ours.images([]).shape == (0, WIDTH)


def test_captions_are_read_where_they_are_and_long_ones_are_cut(clip, shards) -> None:
    data = of(shards)
    told = {data[1].id: "a wet street", data[3].id: "x" * 3 * LONGEST, "of another": "no"}
    made = embed(data, clip, captions=told, device="cpu")
    assert made.text is not None
    assert made.text.any(1).tolist() == [False, True, False, True, False]
    expected = Clip(clip, "cpu").texts(["a wet street"])[0]
    np.testing.assert_allclose(made.text[1], expected, atol=1e-5)
    prompts = [PROMPT.format(name) for name in CLASSES.names]
    np.testing.assert_allclose(made.class_text, Clip(clip, "cpu").texts(prompts), atol=1e-5)
    with pytest.raises(RobustsegError, match=r"none of the 1 captions is of a sample.*'a/000000'"):
        embed(data, clip, captions={"b": "no"}, device="cpu")


class Patchy(Dataset):
    """Two samples, of which the second lacks a sensor; and a sensor of two channels."""

    def __init__(self) -> None:
        self.name, self.split, self.size = "patchy", "train", (8, 8)
        self.paths, self.options = (), self.Options()
        self.classes, self.modalities = CLASSES, ("rgb", "aolp")
        self.encodings = {"rgb": {}, "aolp": {"representation": "sin_cos"}}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        aolp = rng.normal(size=(2, 8, 8)).astype(np.float32)
        rgb = {"rgb": rng.normal(size=(3, 8, 8)).astype(np.float32)} if index == 0 else {}
        return Sample(f"s{index}", {**rgb, "aolp": aolp})

    def tags(self, index: int):
        return {}


def test_a_sensor_that_a_sample_lacks_is_zero_and_others_than_three_channels_are_gray(clip) -> None:
    data = Patchy()
    made = embed(data, clip, device="cpu")
    assert made.images.any(2).tolist() == [[True, True], [False, True]]
    drawn = picture_of(data[0], "aolp", data.encodings)
    assert drawn.shape == (8, 8, 3)
    assert (drawn[..., 0] == drawn[..., 2]).all()
    assert picture_of(data[0], "rgb", data.encodings).shape == (8, 8, 3)


def damaged(clip: Path, folder: Path, name: str, content: bytes | None) -> Path:
    shutil.copytree(clip, folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("config.json", None, "has no config.json that can be read .No such file"),
        ("config.json", b"[1]", "holds a model of type None, not 'clip'"),
        ("config.json", b'{"model_type": "bert"}', "holds a model of type 'bert', not 'clip'"),
        ("config.json", b"{", "has no config.json that can be read"),
        ("model.safetensors", None, "is no CLIP that can be read"),
        ("model.safetensors", b"none", "is no CLIP that can be read"),
        ("vocab.json", b"none", "is no CLIP that can be read"),
        ("preprocessor_config.json", b'{"image_std": [0, 1, 1]}', "cannot be used"),
    ],
)
def test_what_is_no_clip_is_a_sentence(name, content, text, clip, tmp_path) -> None:
    with pytest.raises(RobustsegError, match=f"{text}.*give the folder of a CLIP checkpoint"):
        Clip(damaged(clip, tmp_path / "clip", name, content), "cpu")


def test_weights_that_are_not_there_are_never_random(clip, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = damaged(clip, tmp_path / "clip", "notes.txt", b"")
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RobustsegError, match="lacks weights of a CLIP"):
        Clip(folder, "cpu")


def test_the_models_own_levels_count(clip, tmp_path) -> None:
    told = json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}).encode()
    other = Clip(damaged(clip, tmp_path / "clip", "preprocessor_config.json", told), "cpu")
    assert other._mean.flatten().tolist() == [0, 0, 0]
    assert Clip(clip, "cpu")._mean.flatten()[0] == pytest.approx(0.48145466)


def test_without_transformers_the_command_that_brings_it_is_named(clip, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RobustsegError, match="transformers is not installed; pip install"):
        Clip(clip, "cpu")


@pytest.mark.parametrize("content", [b"[]", b'{"a": 1}', b"no"])
def test_captions_that_are_none_are_a_sentence(content, tmp_path) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(content)
    with pytest.raises(RobustsegError, match=r"give a JSON file|holds no captions"):
        read_captions(path)


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["robustseg", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_writes_a_cache_or_nothing(clip, shards, tmp_path, monkeypatch, capsys) -> None:
    out, captions = tmp_path / "cache.safetensors", tmp_path / "captions.json"
    captions.write_text(json.dumps({"a/000002": "a street"}))
    words = ("embed", shards, "--model", clip, "--out", out, "--device", "cpu")
    assert run(monkeypatch, *words, "--captions", captions, "--modality", "depth") == 0
    told = capsys.readouterr().err
    assert "5 samples of depth, 1 captions, 3 class names: 8 numbers each" in told
    made = embeddings.load(out)
    assert (made.modalities, made.width) == (("depth",), WIDTH)
    out.unlink()
    assert run(monkeypatch, "embed", shards, "--model", shards, "--out", out) == 2
    assert "give the folder of a CLIP checkpoint" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
