"""Sensors whose images have other than three channels: one stem each, and the same network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from robustseg_core import modalities
from robustseg_core.errors import RobustsegError
from robustseg_core.learn import journal
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import load_recipe
from robustseg_core.models import checkpoint
from robustseg_core.shards.levels import from_png, to_png
from support import sonar
from support.learn_data import CLASSES, make_shards, words
from support.planted import plant

SIZE = (32, 64)


@pytest.fixture
def planted(tmp_path, monkeypatch) -> None:
    plant(monkeypatch, tmp_path, modalities, "sonar", sonar.file(5))


def images(batch: int = 2) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    counts = {"rgb": 3, "depth": 3, "sonar": 5}
    return {n: torch.randn(batch, c, *SIZE, generator=random) for n, c in counts.items()}


def spec(**more):
    return checkpoint.default_spec(("rgb", "depth", "sonar"), size=SIZE, **more)


def test_a_shared_stem_wants_one_number_of_channels_and_says_the_way_out(planted):
    assert spec().stem == "per_modality"
    with pytest.raises(RobustsegError, match="rgb 3, depth 3, sonar 5; use stem: per_modality"):
        spec(stem="shared")
    alone = checkpoint.default_spec(("sonar",), size=SIZE)
    assert alone.stem == "shared" and alone.channels == {"sonar": 5}


def test_the_encoding_decides_how_many_there_are(planted):
    assert spec(encodings={"sonar": {"bins": 7}}).channels == {"sonar": 7}
    assert spec(encodings={"sonar": {"bins": 3}}).stem == "shared"


def test_no_sensor_changes_what_the_network_makes_of_another(planted):
    model = checkpoint.untrained(spec())
    both = images()
    everyone = torch.ones(2, 3, dtype=torch.bool)
    with torch.inference_mode():
        packed = model(both, everyone)
        for column, name in enumerate(model.spec.modalities):
            alone = torch.zeros(2, 3, dtype=torch.bool)
            alone[:, column] = True
            found = model({name: both[name]}, alone)
            own = packed.modality == column
            for together, apart in zip(packed.features, found.features, strict=True):
                torch.testing.assert_close(together[own], apart, rtol=1e-5, atol=1e-5)


def test_images_of_other_channels_are_refused_with_those_expected(planted):
    model = checkpoint.untrained(spec())
    wrong = images() | {"sonar": torch.zeros(2, 3, *SIZE)}
    with pytest.raises(RobustsegError, match=r"'sonar' are \(2, 3, 32, 64\).* \(2, 5, H, W\)"):
        model(wrong, torch.ones(2, 3, dtype=torch.bool))


def test_a_checkpoint_alone_rebuilds_the_network(planted, tmp_path, monkeypatch):
    model, file = checkpoint.untrained(spec()), tmp_path / "net.safetensors"
    checkpoint.save(file, model)
    monkeypatch.undo()  # the plug-in is not needed for it
    assert "sonar" not in modalities.available()
    again = checkpoint.load(file)
    assert again.spec == model.spec and again.spec.channels_of("sonar") == 5
    everyone = torch.ones(2, 3, dtype=torch.bool)
    with torch.inference_mode():
        assert torch.equal(again(images(), everyone).logits, model(images(), everyone).logits)


def test_a_checkpoint_of_before_means_three_channels(tmp_path):
    file = tmp_path / "net.safetensors"
    before = checkpoint.default_spec(("rgb", "depth", "event", "lidar"), size=SIZE)
    checkpoint.save(file, checkpoint.untrained(before))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    told = json.loads(metadata["spec"])
    del told["channels"]
    save_file(load_file(file), file, metadata | {"spec": json.dumps(told)})
    assert {checkpoint.load(file).spec.channels_of(name) for name in told["modalities"]} == {3}


@pytest.mark.parametrize("count", [0, 65])
def test_no_sensor_has_so_many_channels(count):
    with pytest.raises(RobustsegError, match=f"rgb has {count} channels; expected 1 to 64"):
        checkpoint.default_spec(("rgb",), channels={"rgb": count})


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_images_of_any_channels_come_back_from_a_shard(count):
    array = np.random.default_rng(count).random((count, 8, 16), np.float32)
    png, values = to_png(array)
    assert np.abs(from_png(png, values, count) - array).max() < 2e-5
    same = np.repeat(array[:1], count, axis=0)
    assert np.abs(from_png(*to_png(same), count) - same).max() < 2e-5
    with pytest.raises(RobustsegError, match="expected 9"):
        from_png(*to_png(np.concatenate([array, array * 2])), 9)


@pytest.mark.slow
def test_a_sensor_of_five_channels_is_trained_with_the_others(planted, tmp_path):
    names = ("rgb", "sonar")
    data = (
        make_shards(tmp_path / "a", 8, names=names),
        make_shards(tmp_path / "b", 4, names=names),
    )
    more = {"network.stem": "per_modality", "optim.steps": 2, "corrupt.p": 0.5}
    fit(load_recipe(["teacher"], words(*data, **more)), tmp_path / "out")
    assert all(
        np.isfinite(float(row["loss"])) for row in journal.read(tmp_path / "out" / "log.csv")
    )
    model = checkpoint.load(tmp_path / "out" / "best.safetensors", classes=CLASSES.names)
    assert model.spec.channels == {"sonar": 5}
    more["network.stem"] = "shared"
    with pytest.raises(RobustsegError, match=r"network of this recipe .*per_modality"):
        fit(load_recipe(["teacher"], words(*data, **more)), tmp_path / "other")
