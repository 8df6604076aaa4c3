"""The published protocols, and the damage that they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.figures import headline
from robustseg_core.evaluation.noise import LEVELS, add_noise, drop_elements, generator
from robustseg_core.evaluation.protocols import INTACT, ZERO, plan, rounds
from robustseg_core.models.subsets import expectation, short, subsets
from support.eval_samples import NAMES

# DELIVER val, B0, skip, in the papers' column order (docs/specs/network.md).
ANYSEG = (
    47.11,
    52.17,
    17.33,
    19.01,
    60.37,
    47.49,
    48.13,
    52.82,
    52.29,
    21.47,
    60.16,
    60.60,
    47.98,
    52.44,
    60.26,
)
MAGIC = (
    32.60,
    55.06,
    0.52,
    0.39,
    63.32,
    33.02,
    33.12,
    55.16,
    55.17,
    0.26,
    63.37,
    63.36,
    33.32,
    55.26,
    63.40,
)


@pytest.mark.parametrize(
    "row, mean, expected",
    [
        (ANYSEG, 46.64, {"E(.2)": 55.52, "E(.1)": 58.08, "E(.05)": 59.22}),
        (MAGIC, 40.49, {"E(.2)": 54.82, "E(.1)": 59.32, "E(.05)": 61.42}),
    ],
)
def test_published_rows_give_their_published_means_and_expectations(row, mean, expected):
    trials = plan(NAMES, protocols=["subsets"])
    assert [short(t.subset) for t in trials][:6] == ["R", "D", "E", "L", "RD", "RE"]
    table = headline(np.array(row), trials, NAMES)
    assert table["subsets mean"] == pytest.approx(mean, abs=0.006)
    for name, value in expected.items():
        assert table[f"subsets {name}"] == pytest.approx(value, abs=0.006)
    assert table["subsets full"] == row[-1]
    assert table["subsets worst"] == min(row)


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7), st.floats(0, 0.99))
def test_expectation_lies_between_the_worst_and_the_best_subset(values, p):
    names = NAMES[:3]
    scores = dict(zip(subsets(names), values, strict=True))
    assert min(values) - 1e-9 <= expectation(scores, names, p) <= max(values) + 1e-9
    assert expectation(scores, names, 0) == values[-1]


def test_the_plan_has_every_trial_of_the_papers_and_keeps_skip_and_zero_apart():
    trials = plan(NAMES)
    assert len(trials) == 15 + 15 + 3 * 15 + 3
    assert {t.others for t in trials if t.protocol == "subsets"} == {None}
    assert {t.others for t in trials if t.protocol == "emm"} == {ZERO}
    assert [t.protocol for t in trials[-3:]] == ["nm low", "nm mid", "nm high"]
    assert {t.protocol for t in plan(NAMES, missing=["skip"])} == {
        "subsets",
        "nm low",
        "nm mid",
        "nm high",
    }
    assert "subsets" not in {t.protocol for t in plan(NAMES, missing=["zero"])}
    assert sorted(i for places in rounds(trials) for i in places) == list(range(78))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"protocols": ["em"]}, "protocol 'em' is unknown; did you mean 'emm'"),
        ({"missing": ["drop"]}, "missing 'drop'"),
        ({"rates": [2.0]}, "RMM rate is 2.0"),
        ({"protocols": ["emm"], "missing": ["skip"]}, "`emm` and `rmm` need zero"),
    ],
)
def test_a_plan_of_nothing_known_is_an_error(options, said):
    with pytest.raises(RobustsegError, match=said):
        plan(NAMES, **options)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, 64, 64), dtype=np.float32)


def test_dropping_everything_leaves_nothing_and_dropping_nothing_leaves_all():
    assert not drop_elements(image(), 1.0, generator(0, "f", "rgb")).any()
    assert np.array_equal(drop_elements(image(), 0.0, generator(0, "f", "rgb")), image())


def test_the_drop_rate_is_the_share_of_single_elements_that_become_zero():
    gone = [drop_elements(image(), r, generator(0, "f", "rgb")) == 0 for r in (0.25, 0.5, 0.75)]
    for mask, rate in zip(gone, (0.25, 0.5, 0.75), strict=True):
        assert mask.mean() == pytest.approx(rate, abs=0.015)  # 12288 draws: 3.8 sigma
        assert mask.all(0).mean() == pytest.approx(rate**3, abs=0.03)  # channels independently
    assert (gone[0] <= gone[1]).all() and (gone[1] <= gone[2]).all()  # equal rng: nested


def test_damage_depends_on_seed_sample_and_sensor_only():
    def draw(*names):
        return generator(*names).random(4).tolist()

    assert draw(0, "a", "rgb") == draw(0, "a", "rgb")
    assert (
        len(
            {
                tuple(draw(*n))
                for n in [
                    (0, "a", "rgb"),
                    (1, "a", "rgb"),
                    (0, "b", "rgb"),
                    (0, "a", "depth"),
                    (0, "argb", ""),
                ]
            }
        )
        == 5
    )


@pytest.mark.parametrize("level", LEVELS)
def test_event_noise_has_no_gaussian_part(level):
    clean = image()
    noisy = add_noise(clean, level, "event", generator(0, "f"))
    changed = noisy != clean
    assert set(np.unique(noisy[changed])) == {clean.min(), clean.max()}
    density = LEVELS[level].density
    assert changed.mean() == pytest.approx(1 - np.exp(-density), rel=0.05)  # with replacement


@pytest.mark.parametrize("level", LEVELS)
def test_camera_noise_is_salt_and_pepper_and_a_gaussian_everywhere(level):
    clean = image()
    salted = add_noise(clean, level, "event", generator(0, "f"))
    noise = add_noise(clean, level, "rgb", generator(0, "f")) - salted
    assert (noise != 0).mean() > 0.99
    assert noise.std() == pytest.approx(LEVELS[level].sigma, rel=0.03)
    assert clean.max() == image().max(), "the input is left as it was"


def test_pepper_is_strewn_over_salt():
    noisy = add_noise(image(), "high", "event", generator(0, "f"))
    salt, pepper = (noisy == image().max()).sum(), (noisy == image().min()).sum()
    hits = 3 * 64 * 64 * 0.1
    assert pepper == pytest.approx(hits * (1 - 0.05), rel=0.04)  # less what fell on itself
    assert salt == pytest.approx(hits * 0.95 * (1 - 0.095), rel=0.04)  # less what pepper covered


def test_an_unknown_level_or_rate_is_an_error():
    with pytest.raises(RobustsegError, match="low, mid, high"):
        add_noise(image(), "huge", "rgb", generator(0))
    with pytest.raises(RobustsegError, match="lies in"):
        drop_elements(image(), 1.5, generator(0))
    assert INTACT.informative and not ZERO.informative
