"""Evaluation of random weights on random samples: the counting must be right all the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from robustseg_core.datasets import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation import evaluate
from robustseg_core.evaluation.protocols import plan
from robustseg_core.evaluation.shared import SharedForward
from robustseg_core.metrics import confusion
from robustseg_core.models import checkpoint
from robustseg_core.models.classes import ClassSet
from support.eval_samples import CLASSES, NAMES, InMemory, network, random_samples

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

LACKING = {1: ["rgb"], 3: ["rgb", "depth", "event"]}


@pytest.fixture(scope="module")
def model():
    return network()


def of(results, protocol):
    """(trials, ...) counts of one protocol."""
    return results.counts[[t.protocol == protocol for t in results.trials]]


def plain(model, sample, subset, *, zero=False):
    """One sample through the published network, the slow way: ids at the label's size."""
    images, alive = {}, torch.zeros(1, len(NAMES), dtype=torch.bool)
    for column, name in enumerate(NAMES):
        image = torch.from_numpy(sample.images[name])[None].double()
        images[name] = image if name in subset else torch.zeros_like(image)
        alive[0, column] = zero or name in subset
    logits = model(images, alive).logits
    size = sample.label.shape
    large = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return large[0].argmax(0).numpy().astype(np.uint8)


@pytest.mark.parametrize("stem, norm", [("shared", "shared"), ("per_modality", "per_modality")])
def test_sharing_the_encoder_changes_no_count(stem, norm):
    model = network(stem=stem, norm=norm)
    samples = random_samples(3, label_size=(48, 80))
    results = evaluate(model, InMemory(samples), protocols=["subsets", "emm"], batch=2)
    with torch.inference_mode():
        for counts, trial in zip(results.counts, results.trials, strict=True):
            expected = sum(
                confusion(s.label, plain(model, s, trial.subset, zero=trial.protocol == "emm"), 4)
                for s in samples
            )
            assert np.array_equal(counts.sum(0), expected), trial
    assert results.about.label_size == (48, 80)


def test_shared_features_give_the_logits_of_the_whole_network(model):
    samples = random_samples(2)
    forward = SharedForward(model)
    forward.take(samples)
    images = {n: torch.from_numpy(np.stack([s.images[n] for s in samples])).double() for n in NAMES}
    for trial in plan(NAMES, protocols=["subsets"]):
        alive = torch.tensor([[name in trial.subset for name in NAMES]] * 2)
        with torch.inference_mode():
            expected = model(images, alive).logits
        logits, places = forward.logits(trial)
        assert places == [0, 1]
        torch.testing.assert_close(logits, expected)


def test_batch_size_changes_nothing(model):
    samples = random_samples(5, lacking=LACKING)
    one, four = (evaluate(model, InMemory(samples), batch=b) for b in (1, 4))
    assert np.array_equal(one.counts, four.counts)
    assert np.array_equal(one.blind, four.blind)
    assert one.about == four.about
    assert [f.id for f in one.worst] == [f.id for f in four.worst]


def test_order_of_the_samples_changes_nothing(model):
    samples = random_samples(4)
    there, back = (evaluate(model, InMemory(s), batch=3) for s in (samples, samples[::-1]))
    assert np.array_equal(there.counts, back.counts)


def test_dropping_every_element_is_emm_and_dropping_none_is_the_full_set(model):
    results = evaluate(
        model,
        InMemory(random_samples(4, lacking=LACKING)),
        protocols=["emm", "rmm"],
        rates=(0.0, 1.0),
    )
    assert np.array_equal(of(results, "rmm 1"), of(results, "emm"))
    untouched = of(results, "rmm 0")
    assert all(np.array_equal(counts, of(results, "emm")[-1]) for counts in untouched)


def test_skip_and_zero_are_two_different_tests_and_agree_when_nothing_is_missing(model):
    results = evaluate(model, InMemory(random_samples(3)), protocols=["subsets", "emm"])
    skip, zero = of(results, "subsets"), of(results, "emm")
    assert np.array_equal(skip[-1], zero[-1])
    assert all(not np.array_equal(a, b) for a, b in zip(skip[:-1], zero[:-1], strict=True))


def test_another_seed_changes_the_noise_and_nothing_else(model):
    samples = InMemory(random_samples(2))
    a, b = (evaluate(model, samples, seed=seed) for seed in (0, 1))
    for protocol in ("subsets", "emm"):
        assert np.array_equal(of(a, protocol), of(b, protocol))
    for protocol in ("rmm 0.5", "nm mid"):
        assert not np.array_equal(of(a, protocol), of(b, protocol))


def test_every_known_pixel_is_counted_once_in_every_trial(model):
    samples = random_samples(5, lacking=LACKING)
    results = evaluate(model, InMemory(samples))
    assert (results.counts.sum((1, 2, 3)) == 5 * 60 * 64).all()
    by_scene = sum(results.pick("scene", scene)[0] for scene in ("s0", "s1", "s2"))
    assert np.array_equal(by_scene, results.counts.sum(1))
    assert results.pick("condition", "day")[1] == 3
    assert (results.values("case"), results.values("scene")) == (["", "fog"], ["s0", "s1", "s2"])


def test_what_the_recording_lacks_is_missed_only_where_nothing_else_is_left(model):
    results = evaluate(model, InMemory(random_samples(4, lacking=LACKING)))
    blind = {(t.protocol, t.subset): n for t, n in zip(results.trials, results.blind, strict=True)}
    for protocol in ("subsets", "emm"):
        assert blind[protocol, ("rgb",)] == 2
        assert blind[protocol, ("depth",)] == blind[protocol, ("rgb", "depth", "event")] == 1
        assert blind[protocol, ("lidar",)] == blind[protocol, NAMES] == 0
    assert blind["rmm 0.5", ("rgb",)] == 0  # the others still show half of what they see
    assert results.about.present == {"rgb": 2, "depth": 3, "event": 3, "lidar": 4}
    only_rgb = of(results, "subsets")[0]
    assert only_rgb.sum(0)[:, -1].sum() == 2 * 60 * 64  # predicted as nothing


def test_a_dead_sensor_in_the_recording_counts_as_its_survivors(model):
    whole, torn = random_samples(1), random_samples(1, lacking={0: ["lidar"]})
    a, b = (evaluate(model, InMemory(s), protocols=["subsets"]) for s in (whole, torn))
    without = [t.subset for t in a.trials].index(("rgb", "depth", "event"))
    assert np.array_equal(b.counts[-1], a.counts[without])


def test_the_worst_frame_of_each_scene_is_kept_for_looking_at(model):
    results = evaluate(model, InMemory(random_samples(8)), protocols=["subsets"], worst=3)
    assert len({frame.scene for frame in results.worst}) == 3
    scores = [frame.score for frame in results.worst]
    assert scores == sorted(scores)
    frame = results.worst[0]
    assert frame.picture.shape == (64, 64, 3) and frame.labels.shape == frame.truth.shape


def test_a_checkpoint_is_named_with_its_digest_and_progress_is_told(tmp_path, model):
    checkpoint.save(tmp_path / "student.safetensors", model.float())
    told = []
    samples = random_samples(3)
    samples.append(Sample("f3", samples[0].images, None, {"scene": "s9"}))
    results = evaluate(
        tmp_path / "student.safetensors",
        InMemory(samples),
        protocols=["nm"],
        batch=2,
        on_progress=lambda done, total: told.append((done, total)),
    )
    model.double()
    assert told == [(2, 4), (4, 4)]
    assert results.about.checkpoint == "student.safetensors"
    assert len(results.about.checkpoint_sha256) == 64
    assert (results.about.samples, results.about.unlabelled) == (3, 1)
    for said in ("memory val", "3 samples", "64x64", "count as 0", "seed 0", "random weights"):
        assert said in results.about.caption()


def test_what_does_not_fit_the_weights_is_an_error_with_a_way_out(model):
    samples = random_samples(2)
    other = ClassSet(("road", "wall"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(RobustsegError, match=r"4 classes .* but the data 2"):
        evaluate(model, InMemory(samples, classes=other))
    no_lidar = InMemory(random_samples(2, modalities=NAMES[:3]), modalities=NAMES[:3])
    with pytest.raises(RobustsegError, match="not lidar, which the checkpoint knows"):
        evaluate(model, no_lidar)
    results = evaluate(model, no_lidar, allow_missing=True, protocols=["subsets"])
    assert len(results.trials) == 7 and results.about.modalities == NAMES[:3]
    with pytest.raises(RobustsegError, match="no sensor in common"):
        evaluate(model, InMemory(samples, modalities=("nir",)), allow_missing=True)
    farther = InMemory(samples)
    farther.encodings = {"lidar": {"max_range_m": 7.0}}
    with pytest.raises(RobustsegError, match="lidar of memory is encoded with max_range_m"):
        evaluate(model, farther)
    assert evaluate(model, farther, allow_encodings=True, protocols=["nm"]).counts.any()


def test_data_that_cannot_be_scored_is_an_error(model):
    sample = random_samples(1)[0]
    blank = InMemory([Sample("f", sample.images, None)])
    with pytest.raises(RobustsegError, match="none of the 1 samples of memory val has a label"):
        evaluate(model, blank)
    strange = Sample("f", sample.images, np.full((64, 64), len(CLASSES.names), np.uint8))
    with pytest.raises(RobustsegError, match="label of f has the id 4"):
        evaluate(model, InMemory([strange]))
    with pytest.raises(RobustsegError, match="evaluate at 64x64"):
        evaluate(model, InMemory(random_samples(1, size=(40, 40))))
    mixed = [*random_samples(1), *random_samples(1, size=(32, 32))]
    with pytest.raises(RobustsegError, match="one size"):
        evaluate(model, InMemory(mixed))
    with pytest.raises(RobustsegError, match="one size"):
        evaluate(model, InMemory(mixed), batch=1)
    for options in ({"absent": "drop"}, {"batch": 0}):
        with pytest.raises(RobustsegError):
            evaluate(model, InMemory([sample]), **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_told_in_its_own_words(model, workers):
    class Damaged(InMemory):
        def __getitem__(self, index):
            raise RobustsegError(f"file {index}.png is cut short; copy it again")

    with pytest.raises(RobustsegError, match=r"^file 0\.png is cut short; copy it again$"):
        evaluate(model, Damaged(random_samples(2)), workers=workers)


def test_the_global_dice_are_left_alone(model):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    evaluate(model, InMemory(random_samples(1)), protocols=["rmm", "nm"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_logits_that_are_not_finite_are_no_figure():
    model = network(stem="per_modality")
    with torch.no_grad():
        model.encoder.stages[0].embed.proj[1].weight.fill_(torch.inf)
    text = r"logits of sample f0 are not finite \(subsets with (rgb, )?depth"
    with pytest.raises(RobustsegError, match=text):
        evaluate(model, InMemory(random_samples(2)), protocols=["subsets"])
    samples = random_samples(2)
    samples[1].images["rgb"][0, 3, 4] = np.nan
    with pytest.raises(RobustsegError, match=r"logits of sample f1 .*whether the sample's images"):
        evaluate(network(), InMemory(samples), protocols=["subsets"])
