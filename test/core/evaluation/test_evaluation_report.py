"""From counts to figures, files, intervals and comparisons."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation import compare, compare_results, evaluate, load, write
from robustseg_core.evaluation.bootstrap import draws, intervals
from robustseg_core.evaluation.figures import figures
from robustseg_core.evaluation.protocols import plan
from robustseg_core.evaluation.report import scores_by_number
from robustseg_core.evaluation.results import About, Group, Results
from robustseg_core.evaluation.tables import tables
from support.eval_samples import CLASSES, NAMES, InMemory, network, random_samples

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def results():
    samples = random_samples(8, lacking={1: ["rgb"]})
    return evaluate(network(), InMemory(samples), rates=(0.5,), batch=4)


@pytest.fixture(scope="module")
def others():
    samples = random_samples(8, lacking={1: ["rgb"]})
    return evaluate(network(1), InMemory(samples), rates=(0.5,), batch=4)


def toy(counts, *, absent="zero", scenes=None) -> Results:
    """Results of one sensor whose counts are given: (G, K, K + 1)."""
    counts = np.array(counts, np.int64)
    names = tuple(scenes or (f"s{i}" for i in range(len(counts))))
    about = About(
        checkpoint="toy",
        provenance="made by hand",
        trained=True,
        dataset="toy",
        split="val",
        size=(32, 32),
        label_size=(32, 32),
        samples=len(counts),
        samples_sha256="0",
        modalities=("rgb",),
        present={"rgb": len(counts)},
        protocols=("subsets",),
        missing=("skip",),
        rates=(),
        absent=absent,
        seed=0,
    )
    classes = CLASSES.names[: counts.shape[1]]
    return Results(
        about,
        classes,
        CLASSES.palette[: len(classes)],
        tuple(plan(("rgb",), protocols=["subsets"])),
        tuple(Group(n) for n in names),
        (1,) * len(names),
        counts[None],
        np.zeros(1, np.int64),
    )


def test_counts_are_added_before_they_are_divided():
    scenes = [[[8, 2, 0], [0, 0, 0]], [[0, 0, 0], [5, 5, 0]]]
    value = figures(toy(scenes))["subsets full"]
    assert value == pytest.approx((8 / 15 + 5 / 12) / 2)


def test_the_rule_for_absent_classes_changes_the_mean():
    counts = [[[8, 2, 0, 0], [2, 8, 0, 0], [0, 0, 0, 0]]]
    assert figures(toy(counts))["subsets mean"] == pytest.approx(2 * (8 / 12) / 3)
    assert figures(toy(counts, absent="skip"))["subsets mean"] == pytest.approx(8 / 12)


def test_intervals_hold_the_figure_and_are_those_of_a_plain_loop(results):
    rng = np.random.default_rng(0)
    table = draws(results, resamples=20, seed=0)
    scenes = results.values("scene")
    weights = rng.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), size=20)
    for r in (0, 7, 19):
        drawn = zip(weights[r], scenes, strict=True)
        counts = sum(w * results.pick("scene", s)[0] for w, s in drawn)
        expected = figures(results, counts)
        for name in expected:
            assert table[name][r] == pytest.approx(expected[name], abs=1e-12), name
    spans = intervals(results, resamples=500)
    low, high = spans["subsets mean"]
    assert low <= figures(results)["subsets mean"] <= high and low < high


def test_groups_of_one_scene_are_resampled_together():
    counts = [[[8, 2, 0], [0, 1, 0]]] * 3
    assert draws(toy(counts, scenes=("a", "a", "a"))) == {}
    assert len(draws(toy(counts, scenes=("a", "a", "b")), resamples=9)["subsets mean"]) == 9


def test_equal_results_differ_by_exactly_nothing(results):
    rows = compare_results(results, results, resamples=200).rows
    assert [row.figure for row in rows] == [
        "subsets mean",
        "subsets full",
        "subsets worst",
        "subsets E(.1)",
        "emm mean",
        "rmm mean",
        "nm mean",
        "robustness mean",
    ]
    assert all((row.second - row.first, row.low, row.high) == (0, 0, 0) for row in rows)
    assert not any(row.clear for row in rows)


def test_a_difference_turns_its_sign_with_the_order(results, others):
    there = compare_results(results, others, resamples=300).rows
    back = compare_results(others, results, resamples=300).rows
    for a, b in zip(there, back, strict=True):
        assert (a.low, a.high) == pytest.approx((-b.high, -b.low))
        assert a.low <= a.second - a.first <= a.high


def test_a_system_that_is_better_in_every_scene_is_clearly_better():
    rng = np.random.default_rng(0)
    hits = rng.integers(50, 60, size=12)
    good = [[[h, 100 - h, 0], [100 - h, h, 0]] for h in hits]
    bad = [[[h - 9, 109 - h, 0], [109 - h, h - 9, 0]] for h in hits]
    row = compare_results(toy(bad), toy(good), resamples=500).rows[0]
    assert row.clear and row.low > 0
    markdown = compare_results(toy(bad), toy(good), names=("bad", "good"), resamples=500).markdown()
    assert "### good against bad" in markdown and "12 scenes" in markdown


def test_a_single_scene_has_no_interval():
    one = toy([[[8, 2, 0], [2, 8, 0]]])
    row = compare_results(one, one).rows[0]
    assert row.low is None and row.first == row.second
    assert "too few scenes" in compare_results(one, one).markdown()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"dataset": "muses"}, "differ in dataset"),
        ({"samples_sha256": "1"}, "differ in sample ids"),
        ({"absent": "skip"}, "differ in absent"),
        ({"protocols": ("subsets", "emm")}, "differ in protocols"),
        ({"seed": 3}, "differ in seed"),
    ],
)
def test_results_of_other_data_or_protocols_are_not_compared(change, said):
    a = toy([[[8, 2, 0], [2, 8, 0]]])
    fields = {f: getattr(a, f) for f in a.__dataclass_fields__}
    b = Results(**fields | {"about": a.about.model_copy(update=change)})
    with pytest.raises(RobustsegError, match=said):
        compare_results(a, b)


def test_other_labels_under_the_same_names_are_noticed():
    with pytest.raises(RobustsegError, match="other labels or tags"):
        compare_results(toy([[[8, 2, 0], [2, 8, 0]]]), toy([[[8, 3, 0], [2, 8, 0]]]))


def test_files_say_what_was_found_and_read_back_the_same(tmp_path, results, others):
    path = write(results, tmp_path / "a", resamples=200)
    write(others, tmp_path / "b", resamples=200)
    again = load(path)
    assert np.array_equal(again.counts, results.counts)
    assert np.array_equal(again.blind, results.blind)
    for field in ("about", "trials", "groups", "sizes", "classes", "palette"):
        assert getattr(again, field) == getattr(results, field), field
    tree = json.loads(path.read_text())
    own = figures(results)
    assert tree["figures"]["subsets mean"]["value"] == pytest.approx(own["subsets mean"], abs=1e-6)
    assert list(tree["miou"]["subsets"])[:5] == ["R", "D", "E", "L", "RD"]
    assert tree["by_condition"]["day"]["samples"] == 4
    assert set(tree["iou"]["emm"]["RDEL"]) == set(CLASSES.names)

    comparison = compare([tmp_path / "a", tmp_path / "b" / "results.json"], resamples=200)[0]
    assert comparison.rows[0].second == figures(others)["subsets mean"]
    assert write(again, tmp_path / "c", resamples=9).exists()  # without pictures


def test_the_report_is_one_file_and_captions_every_table(tmp_path, results):
    write(results, tmp_path, resamples=50)
    text = (tmp_path / "table.md").read_text()
    heads = re.findall(r"^### (.*)", text, re.MULTILINE)
    assert heads == [
        "Headline, mIoU in %",
        "Protocols",
        "Every subset of the sensors",
        "All sensors noisy",
        "By condition",
        "By case",
        "By class",
        "Confidence",
        "Calibration error by condition",
        "Samples that lack sensors",
    ]
    assert text.count(results.about.caption()) == len(heads) - 1  # the last one counts samples
    assert "| protocol | R | D | E | L | RD | RE | RL | DE | DL | EL | RDE | RDL | REL" in text
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    # curve, bars, heats, diagrams; picture, truth and prediction of each frame
    assert page.count("data:image/png") == 2 + 4 + 1 + 3 * len(results.worst)
    assert page.count('class="right"') == len(results.classes), "the diagonal of the confusion"
    assert "Untrained" in page


def test_a_table_has_as_many_cells_in_every_row_as_in_its_head(results):
    for table in tables(results, intervals(results, resamples=20)):
        assert {len(row) for row in table.rows} == {len(table.head)}, table.title


@pytest.mark.parametrize("protocol", ["subsets", "emm", "rmm", "nm"])
def test_any_protocol_alone_can_be_written(tmp_path, protocol):
    few = evaluate(network(), InMemory(random_samples(2)), protocols=[protocol], rates=(0.5,))
    assert write(few, tmp_path, resamples=10).exists()
    assert f"{protocol} mean" in figures(few)
    assert few.about.modalities == NAMES


def test_damaged_results_are_refused(tmp_path, results):
    path = write(results, tmp_path, resamples=10)
    text = path.read_text()
    for broken, said in (
        ("{", "not JSON"),
        ("{}", "format None"),
        ("[]", "format 'list'"),
        (text.replace('"split"', '"spilt"'), "spilt"),
        (text.replace('"groups"', '"group"'), "damaged"),
    ):
        path.write_text(broken)
        with pytest.raises(RobustsegError, match=said):
            load(path)
    path.write_text(text)
    np.savez(tmp_path / "counts.npz", counts=np.array([{"a": 1}], object))
    with pytest.raises(RobustsegError, match=r"cannot read counts\.npz"):
        load(path)
    np.savez(tmp_path / "counts.npz", counts=results.counts[:2])
    with pytest.raises(RobustsegError, match="different runs"):
        load(path)
    (tmp_path / "counts.npz").write_bytes(b"PK")
    with pytest.raises(RobustsegError, match="keep the two files together"):
        load(path)
    with pytest.raises(RobustsegError, match="needs two or more"):
        compare([path])
    with pytest.raises(RobustsegError, match="cannot read"):
        load(tmp_path / "absent.json")


def test_the_curve_over_the_number_of_sensors_is_that_of_the_subsets(results, tmp_path):
    found = scores_by_number(results, "subsets")
    names = results.about.modalities
    assert list(found) == list(range(1, len(names) + 1)) and len(found[1]) == len(names)
    table = figures(results)
    every = [score for some in found.values() for score in some]
    assert np.mean(every) == pytest.approx(table["subsets mean"])
    assert found[len(names)] == [pytest.approx(table["subsets full"])]
    write(results, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "By the number of sensors" in page and "`" not in re.sub(
        "<script.*", "", page, flags=re.S
    )
