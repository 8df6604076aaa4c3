"""What an evaluation says beside mIoU: confidence, the prior of places, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.evaluation import evaluate, load, write
from robustseg_core.evaluation.bootstrap import interval, student
from robustseg_core.evaluation.confidence import (
    agreement,
    of_subsets,
    prior_miou,
    rank_correlation,
    sureness,
)
from robustseg_core.evaluation.tables import PRIOR, tables
from robustseg_core.types import Calibration, Trust
from support.eval_samples import CLASSES, InMemory, network, random_samples

pytestmark = pytest.mark.slow

ALPHAS = (0.1, 0.3)


def drawn(values: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Draws, estimate and jackknife of a ratio of sums: (S, 2) scenes."""

    def ratio(weights: np.ndarray) -> np.ndarray:
        sums = weights @ values
        return sums[..., 0] / sums[..., 1]

    count = len(values)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return ratio(weights), float(ratio(np.ones(count))), ratio(1 - np.eye(count))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(50, 90)), min_size=2, max_size=12),
    st.integers(0, 99),
)
def test_an_interval_holds_its_own_estimate(scenes, seed):
    values, estimate, left = drawn(np.array(scenes, float), 200, seed)
    low, high = interval(values, estimate, left)
    assert low <= estimate <= high


def test_an_interval_holds_the_truth_no_more_seldom_than_percentiles_do():
    rng = np.random.default_rng(0)
    true = 0.3
    ours, percentiles = 0, 0
    for trial in range(300):
        sizes = rng.gamma(1.5, 100, size=8) + 5
        chance = rng.beta(3, 7, size=8)
        scenes = np.stack([sizes * chance, sizes], axis=1)
        values, estimate, left = drawn(scenes, 300, trial)
        low, high = interval(values, estimate, left)
        ours += low <= true <= high
        low, high = np.percentile(values, [2.5, 97.5])
        percentiles += low <= true <= high
    assert percentiles <= ours
    assert ours / 300 > 0.88


@pytest.mark.parametrize(("freedom", "end"), [(1, 12.706), (2, 4.303), (7, 2.365), (39, 2.023)])
def test_the_ends_of_student_s_distribution(freedom, end):
    assert student(freedom) == pytest.approx(end, rel=2e-3)


def test_rank_correlation_is_spearman_s():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.integers(0, 9, (2, 15)).astype(float)
        assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


@pytest.fixture(scope="module")
def results():
    thresholds = tuple((level, 256, 0, level) for level in (90, 70))
    trust = Trust(temperature=3.0, well=thresholds, ailing=thresholds)
    known = Calibration(alphas=ALPHAS, subsets={"rgb": trust}, overall=trust, data="noise")
    model = network()
    model.spec = model.spec.model_copy(update={"calibration": known})
    samples = random_samples(8, lacking={1: ["rgb"]})
    return evaluate(model, InMemory(samples), protocols=["subsets", "emm", "nm"], batch=3)


def test_confidence_is_counted_where_sensors_are_skipped(results):
    rows = sureness(results)
    assert len(rows) == 15 + 3 and len(of_subsets(rows)) == 15
    for row in rows:
        assert 0 <= row.error <= 1 and 1 / len(CLASSES.names) <= row.mean <= 1
        assert len(row.kept) == 2 and row.kept[0] <= row.kept[1]
    places = [i for i, t in enumerate(results.trials) if t.protocol == "emm"]
    assert not results.bins[places].any()
    assert -1 <= agreement(rows) <= 1
    assert not results.kept[:, :, :, 1].any(), "a class of which nothing is promised"


def test_files_hold_what_was_counted(results, tmp_path):
    write(results, tmp_path, resamples=20)
    back = load(tmp_path)
    for name in ("bins", "kept", "prior"):
        assert np.array_equal(getattr(back, name), getattr(results, name))
    assert back.about == results.about
    text = (tmp_path / "table.md").read_text()
    assert "### Confidence" in text and "alpha 0.1: kept" in text
    assert "### Calibration error by condition" in text and f"| {PRIOR} |" in text
    assert "Reliability" in (tmp_path / "report.html").read_text()


def test_every_table_of_scores_shows_the_position_prior(results):
    value = f"{100 * prior_miou(results):.2f}"
    titles = {
        "Headline, mIoU in %",
        "Protocols",
        "Every subset of the sensors",
        "All sensors noisy",
    }
    found = {table.title: table for table in tables(results, {})}
    for title in titles:
        assert any(row[0] == PRIOR and row[1] == value for row in found[title].rows), title
    for title in ("By condition", "By class"):
        assert PRIOR in found[title].head


def test_results_of_an_earlier_version_are_read(results, tmp_path):
    write(results, tmp_path, resamples=20)
    path = tmp_path / "counts.npz"
    np.savez_compressed(path, counts=np.load(path)["counts"])
    back = load(tmp_path)
    assert back.bins is None and sureness(back) == [] and np.isnan(prior_miou(back))
    write(back, tmp_path / "again", resamples=20)
