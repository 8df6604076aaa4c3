"""Confidence is fitted where the truth is known, and a promise is kept on scenes never seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from robustseg_core.cli.main import app
from robustseg_core.datasets import Sample
from robustseg_core.engines.eager import EagerEngine
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation import evaluate
from robustseg_core.learn.calibrate import (
    FEWEST,
    calibrate,
    calibrate_file,
    fit_slope,
    fit_temperature,
    place_thresholds,
)
from robustseg_core.metrics import LEVELS, calibration_error, reliability
from robustseg_core.models import checkpoint
from robustseg_core.models.calibration import temperature_at, winner
from robustseg_core.types import SURE, Bundle, Frame
from support import learn_data
from support.eval_samples import InMemory, network, random_samples
from support.learn_data import make_shards

pytestmark = pytest.mark.slow


def drawn(logits: torch.Tensor, seed: int) -> torch.Tensor:
    """(N,) true classes, as the softmax of (N, K) logits says."""
    rng = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(1), 1, generator=rng)[:, 0]


@settings(max_examples=8, deadline=None)
@given(st.floats(0.2, 8), st.integers(2, 20), st.integers(0, 99))
def test_the_true_temperature_is_found(true, classes, seed):
    rng = torch.Generator().manual_seed(seed)
    honest = 2.5 * torch.randn(30_000, classes, generator=rng)
    found = fit_temperature(honest * true, drawn(honest, seed))
    assert found == pytest.approx(true, rel=0.06)


@given(
    st.integers(2, 20), st.integers(1, 400), st.floats(-2, 2), st.floats(0, 1), st.integers(0, 99)
)
def test_no_other_temperature_is_more_likely(classes, count, spread, honesty, seed):
    rng = torch.Generator().manual_seed(seed)
    logits = 10**spread * torch.randn(count, classes, generator=rng)
    ids = drawn(logits * honesty, seed)
    found = fit_temperature(logits, ids)
    assert 0.01 <= found <= 100

    def loss(temperature):
        return float(torch.nn.functional.cross_entropy(logits.double() / temperature, ids))

    for other in np.geomspace(0.01, 100, 41):
        assert loss(found) <= loss(other) + 1e-9


def test_logits_that_say_nothing_are_left_as_they_are():
    assert fit_temperature(torch.zeros(9, 4), torch.zeros(9, dtype=torch.int64)) == 1


@pytest.mark.parametrize("slope", [-1.0, 0.0, 1.5])
def test_the_true_slope_is_found(slope):
    rng = torch.Generator().manual_seed(1)
    honest = 2.5 * torch.randn(40_000, 8, generator=rng)
    ailing = torch.rand(len(honest), generator=rng)
    said = honest * 1.7 * torch.exp(slope * ailing)[:, None]
    found = fit_slope(said, drawn(honest, 1), ailing, temperature=1.7)
    assert found == pytest.approx(slope, abs=0.15)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 20), st.integers(2, 9))
def test_no_temperature_changes_a_label(seed, temperature, classes):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(classes, 8, 9, generator=rng).round(decimals=1)  # with ties
    ids, confidence = winner(logits, temperature)
    assert torch.equal(ids, winner(logits, 1.0)[0])
    best = (logits / temperature).softmax(0).max(0).values
    assert torch.allclose(confidence, best, atol=1e-5)


def scenes(count, rng, *, slant=1.0, pixels=400, classes=2):
    """(B, K, LEVELS, 2): each scene has its own luck, and all come of one law."""
    table = np.zeros((count, classes, LEVELS, 2), np.int64)
    for scene in range(count):
        luck = rng.normal(0, 0.05)
        for k in range(classes):
            level = rng.integers(40, LEVELS, pixels)
            right = rng.random(pixels) < np.clip((level / 255) ** slant + luck, 0, 1)
            np.add.at(table[scene, k], (level, right.astype(int)), 1)
    return table


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_of_what_is_kept_in_new_scenes_no_more_than_alpha_is_wrong(alpha):
    """Binding thresholds: coverage is 1 - alpha, and not much more, on scenes of the same law."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        least = np.array(place_thresholds(scenes(25, rng), [alpha])[0])
        assert (least > 40).all() and (least < SURE).all()
        fresh = scenes(25, rng).sum(0)
        kept = np.sum([fresh[k, least[k] :].sum(0) for k in range(2)], axis=0)
        found.append(kept[1] / kept.sum())
    error = np.std(found) / math.sqrt(len(found))
    assert 1 - alpha - 3 * error <= np.mean(found) <= 1 - alpha + 0.02


def test_a_class_of_few_scenes_is_promised_nothing_and_a_sure_one_everything():
    table = np.zeros((FEWEST, 3, LEVELS, 2), np.int64)
    table[:, 0, 100, 1] = 50  # always right
    table[1:, 1, 100, 1] = 50  # in too few scenes
    table[:, 2, 100, 0] = 50  # always wrong
    assert place_thresholds(table, [0.1]) == ((0, SURE, SURE),)


def test_honest_confidence_has_no_calibration_error_and_a_boast_has_its_own():
    rng = np.random.default_rng(0)
    level = rng.integers(0, LEVELS, 400_000)
    table = np.zeros((1, LEVELS, 2), np.int64)
    np.add.at(table[0], (level, (rng.random(len(level)) < level / 255).astype(int)), 1)
    assert calibration_error(reliability(table)) < 0.005
    boast = np.zeros((1, LEVELS, 2), np.int64)
    boast[0, 204] = 50, 50  # 0.8 sure, right half of the time
    assert calibration_error(reliability(boast)) == pytest.approx(0.3)
    assert np.isnan(calibration_error(reliability(np.zeros((1, LEVELS, 2), np.int64))))


@pytest.fixture(scope="module")
def data():
    samples = random_samples(12, size=(32, 64))
    dim = [replace(s, images={k: v * 0.3 for k, v in s.images.items()}) for s in samples]
    return InMemory(dim)  # within the range of pictures, as faults expect


@pytest.fixture(scope="module")
def model():
    return network(size=(32, 64)).float()


@pytest.fixture(scope="module")
def found(model, data):
    return calibrate(model, data, alphas=[0.2, 0.1], batch=5)


def test_every_subset_has_its_temperature_whatever_the_batch(found, model, data):
    assert len(found.subsets) == 15 and found.alphas == (0.1, 0.2)
    assert "memory val, 12 samples of 6 scenes" in found.data
    again = calibrate(model, data, alphas=[0.1, 0.2], batch=12)
    for name, trust in found.subsets.items():
        assert again.subsets[name].temperature == pytest.approx(trust.temperature, rel=1e-2)
    whole = calibrate(model, data, damage=None)
    assert {trust.slope for trust in whole.subsets.values()} == {0.0}
    assert whole.overall.well == whole.overall.ailing


def test_a_file_keeps_its_weights_and_gets_a_calibration(tmp_path, model, data):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    checkpoint.save(path, model, half=True)
    before = path.read_bytes()
    spec = calibrate_file(path, data, out)
    assert path.read_bytes() == before and checkpoint.spec_of(path).calibration is None
    loaded = checkpoint.load(out)
    assert loaded.spec == spec and spec.calibration is not None and checkpoint.is_half(out)
    for name, tensor in checkpoint.load(path).state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    with pytest.raises(RobustsegError, match=r"b\.safetensors is there already"):
        calibrate_file(path, data, out)


def test_a_folder_that_is_not_there_is_said_before_the_work(tmp_path, model, data):
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, model)

    def never(done, total):
        raise AssertionError("it was begun")

    with pytest.raises(RobustsegError, match=r"there is no folder .*gone for b.safetensors"):
        calibrate_file(path, data, tmp_path / "gone" / "b.safetensors", on_progress=never)


def test_what_is_promised_holds_at_the_size_of_the_samples(tmp_path, model, data):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    height, width = data.network_shape()
    checkpoint.save(path, model, model.spec.model_copy(update={"size": (2 * height, 2 * width)}))
    assert calibrate_file(path, data, out).size == (height, width)
    assert checkpoint.spec_of(path).size == (2 * height, 2 * width)


def test_masks_are_as_sure_as_the_sensors_alive_allow_and_labels_stay(model, found):
    spec = model.spec.model_copy(update={"calibration": found})
    plain = EagerEngine(model, torch.device("cpu"))
    model.spec, before = spec, model.spec
    try:
        told = EagerEngine(model, torch.device("cpu"))
    finally:
        model.spec = before
    image = random_samples(1, size=(32, 64))[0].images["rgb"]
    for quality in (1.0, 0.3):
        bundle = Bundle(0, {"rgb": Frame("rgb", 0, image, quality)})
        (a, sure), (b, calm) = plain(bundle), told(bundle)
        assert np.array_equal(a, b)
        heat = temperature_at(found.subsets["rgb"], quality)
        assert (calm.mean() < sure.mean()) == (heat > 1)


def test_evaluation_measures_what_was_promised(model, found, data):
    model.spec, before = model.spec.model_copy(update={"calibration": found}), model.spec
    try:
        results = evaluate(model, data, protocols=["subsets"])
    finally:
        model.spec = before
    calm = calibration_error(results.bins.sum(1))  # (T,)
    wild = calibration_error(evaluate(model, data, protocols=["subsets"]).bins.sum(1))
    assert results.about.calibrated and results.about.alphas == (0.1, 0.2)
    assert (calm < wild).all() and (calm < 0.02).all()
    pixels = results.bins[..., 0].sum((1, 2))
    assert np.array_equal(pixels, results.counts[..., :-1].sum((1, 2, 3))), "each pixel once"
    right = results.bins[..., 1].sum((1, 2))
    hits = np.trace(results.counts[..., :-1].sum(1), axis1=1, axis2=2)
    assert np.array_equal(right, hits)


def test_the_command_writes_another_checkpoint_and_says_what_it_found(tmp_path):
    shards = [make_shards(tmp_path / f"s{i}", 2, seed=i) for i in range(2)]
    classes = learn_data.CLASSES
    spec = checkpoint.default_spec(
        learn_data.NAMES,
        classes=classes.names,
        palette=classes.palette,
        size=learn_data.SIZE,
        head_width=16,
    )
    path, out = tmp_path / "net.safetensors", tmp_path / "true.safetensors"
    checkpoint.save(path, checkpoint.untrained(spec))
    words = ["calibrate", str(path), *map(str, shards), "--out", str(out), "--alpha", "0.3"]
    done = CliRunner().invoke(app, [*words, "--faults", "none"])
    assert done.exit_code == 0, done.output
    found = checkpoint.spec_of(out).calibration
    assert found is not None and found.alphas == (0.3,) and "4 samples of 2 scenes" in found.data
    again = CliRunner().invoke(app, words)
    assert again.exit_code != 0, "a file that is there is never replaced"
    words[words.index(str(out))] = str(tmp_path / "true.rseg")
    exported = CliRunner().invoke(app, words)
    assert "give one that ends in .safetensors" in str(exported.exception)


def test_data_without_labels_and_impossible_alphas_are_refused(model):
    bare = [Sample("a", random_samples(1)[0].images, None, {"scene": "s"})]
    with pytest.raises(RobustsegError, match=r"none of the 1 samples of memory val has a label"):
        calibrate(model, InMemory(bare))
    with pytest.raises(RobustsegError, match=r"alpha is 0.9; give shares above 0, and at most 0.5"):
        calibrate(model, InMemory(bare), alphas=[0.9])
