"""Every architecture is a network: any subset, trained, saved, loaded and evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robustseg_core.datasets import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation import evaluate
from robustseg_core.evaluation.forward import WholeForward
from robustseg_core.evaluation.protocols import Trial, plan
from robustseg_core.evaluation.shared import SharedForward, forward_of
from robustseg_core.models import architectures, checkpoint
from robustseg_core.models.network import Network, PackedNetwork
from robustseg_core.models.subsets import subsets
from support.eval_samples import NAMES, InMemory, network, random_samples

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

every_architecture = pytest.mark.parametrize("name", architectures.available())
SIZE = (64, 64)
MIXED = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 1]]).bool()


def made(name: str, seed: int = 0, **fields: object) -> Network:
    """Random weights, statistics and biases in double precision."""
    model = network(seed, architecture=name, **fields)
    rng = torch.Generator().manual_seed(seed)
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=rng, dtype=tensor.dtype)
            tensor.data += noise if "running_var" in key else 0.2 * (noise - 0.5)
    return model


def images(batch: int, seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {n: torch.randn(batch, 3, *SIZE, generator=rng).double() for n in NAMES}


@every_architecture
@torch.inference_mode()
def test_every_subset_makes_a_prediction_of_the_agreed_form(name: str):
    model = made(name)
    widths = model.widths
    for subset in subsets(NAMES):
        alive = torch.tensor([[n in subset for n in NAMES]] * 2)
        seen = model({n: x for n, x in images(2).items() if n in subset}, alive)
        side = 64 // model.stride
        assert seen.logits.shape == (2, 4, side, side) and seen.logits.isfinite().all()
        columns = [NAMES.index(n) for n in subset for _ in range(2)]
        assert seen.modality.tolist() == columns
        assert seen.sample.tolist() == [0, 1] * len(subset)
        for s, (width, packed, fused) in enumerate(
            zip(widths, seen.features, seen.fused, strict=True)
        ):
            assert packed.shape == (len(columns), width, side >> s, side >> s)
            assert fused.shape == (2, width, side >> s, side >> s)
        torch.testing.assert_close(model.decode(seen.fused), seen.logits)


@every_architecture
@torch.inference_mode()
def test_a_batch_of_different_subsets_equals_one_robot_at_a_time(name: str):
    model, inputs = made(name), images(len(MIXED))
    together = model(inputs, MIXED)
    for b, row in enumerate(MIXED):
        own = {n: inputs[n][b : b + 1] for n, on in zip(NAMES, row, strict=True) if on}
        alone = model(own, row[None])
        torch.testing.assert_close(together.logits[b : b + 1], alone.logits)
        for packed, mine in zip(together.features, alone.features, strict=True):
            torch.testing.assert_close(packed[together.sample == b], mine)


@every_architecture
@torch.inference_mode()
def test_what_a_dead_sensor_says_never_matters(name: str):
    model, inputs = made(name), images(len(MIXED))
    expected = model(inputs, MIXED).logits
    torn = {
        n: torch.where(MIXED[:, m, None, None, None], inputs[n], torch.nan)
        for m, n in enumerate(NAMES)
    }
    torch.testing.assert_close(model(torn, MIXED).logits, expected)


@every_architecture
def test_the_folded_network_answers_the_same(name: str):
    model = made(name).train()
    twin = model.folded()
    assert twin.head_form == "folded" and not twin.training and model.training
    with torch.inference_mode():
        expected = model.eval()(images(4), MIXED).logits
        torch.testing.assert_close(twin(images(4), MIXED).logits, expected, atol=1e-8, rtol=1e-8)


@every_architecture
@pytest.mark.parametrize("head", ["published", "folded"])
def test_every_weight_learns(name: str, head: str):
    model = checkpoint.untrained(made(name).spec, head=head).train()
    for block in (m for m in model.modules() if hasattr(m, "drop_path")):
        block.drop_path = 0
    inputs = {n: x.float() for n, x in images(4).items()}
    model(inputs, MIXED).logits.square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@every_architecture
def test_it_is_saved_and_loaded_whole(name: str, tmp_path: Path):
    model = made(name).float()
    checkpoint.save(tmp_path / "x.safetensors", model)
    again = checkpoint.load(tmp_path / "x.safetensors")
    assert type(again) is type(model) and again.spec == model.spec
    assert again.spec.architecture == name
    inputs = {n: x.float() for n, x in images(4).items()}
    with torch.inference_mode():
        assert torch.equal(again(inputs, MIXED).logits, model.eval()(inputs, MIXED).logits)


def plain(model: Network, sample: Sample, trial: Trial) -> Tensor:
    """(K, h, w) logits of one sample whose sensors are intact, zero or not there."""
    shown, alive = {}, torch.zeros(1, len(NAMES), dtype=torch.bool)
    for column, name in enumerate(NAMES):
        there = name in sample.images and name in trial.subset
        image = sample.images[name] if there else np.zeros((3, *SIZE))
        shown[name] = torch.from_numpy(image)[None].double()
        alive[0, column] = there or trial.others is not None
    logits: Tensor = model(shown, alive).logits[0]
    return logits


@every_architecture
@torch.inference_mode()
def test_evaluating_it_is_asking_it_for_each_sample_and_subset(name: str):
    model = made(name)
    samples = random_samples(3, lacking={1: ["rgb"], 2: ["depth", "lidar"]})
    way = forward_of(model)
    assert isinstance(way, SharedForward) is isinstance(model, PackedNetwork)
    way.take(samples)
    trials = plan(NAMES, protocols=["subsets", "emm"])[::4]
    for trial, (logits, seeing) in zip(trials, way.answers(trials), strict=True):
        assert seeing and len(logits) == len(seeing)
        for row, place in zip(logits, seeing, strict=True):
            torch.testing.assert_close(row, plain(model, samples[place], trial))


@torch.inference_mode()
def test_what_encoding_once_spares_does_not_show_in_damage_either():
    model = made("m_segformer").folded()
    ways = [SharedForward(model), WholeForward(model)]
    for way in ways:
        way.take(random_samples(2, lacking={1: ["rgb"]}))
    trials = plan(NAMES, protocols=["subsets", "rmm", "nm"], rates=(0.5,))[::4]
    answers = zip(trials, *(way.answers(trials) for way in ways), strict=True)
    for trial, (ours, here), (whole, there) in answers:
        assert here == there
        torch.testing.assert_close(ours, whole)
        alone, places = ways[0].logits(trial)
        assert places == here
        torch.testing.assert_close(ours, alone)


@every_architecture
def test_it_is_evaluated_by_name(name: str):
    results = evaluate(made(name), InMemory(random_samples(1)), protocols=["subsets"])
    assert len(results.trials) == 15
    assert (results.counts.sum((1, 2, 3)) == 60 * 64).all()


@every_architecture
def test_an_option_that_it_has_not_is_named(name: str):
    with pytest.raises(RobustsegError, match=r"unknown key .options\.thickness."):
        made(name, options={"thickness": 3})


def test_an_architecture_that_is_none_is_explained(tmp_path: Path):
    with pytest.raises(RobustsegError, match="no Network called 'm_segformr'; did you mean"):
        made("m_segformr")
    spec = made("m_segformer").spec
    other = spec.model_copy(update={"architecture": "other"})
    with pytest.raises(RobustsegError, match="spec says architecture 'other', but the network was"):
        checkpoint.save(tmp_path / "x.safetensors", made("m_segformer"), other)


def test_a_checkpoint_from_before_there_were_architectures_is_what_it_was():
    model = checkpoint.load(checkpoint.SHIPPED.with_name("street_tiny.safetensors"))
    assert model.spec.architecture == "m_segformer" and model.needs == ()
