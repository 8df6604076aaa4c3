"""What the study trains, in which order, for how many steps; and what its tables say."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import study_plan as plans
import study_report as reports
from robustseg_core.learn.recipe import load_recipe
from study_plan import Row

ALL = [*plans.SYSTEMS, "ours_teacher_middle", *(f"ours-{switch}" for switch in plans.SWITCHES)]


def some(names) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(list(names)), unique=True)


@given(some(plans.SYSTEMS).filter(bool), some(plans.SWITCHES), st.permutations(range(3)))
@settings(max_examples=60)
def test_every_row_is_there_once_and_after_its_teacher(systems, switches, seeds) -> None:
    rows = plans.plan(systems, seeds, 40, switches=switches)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for place, row in enumerate(rows):
        assert not row.teacher or row.teacher in names[:place]
    for system in systems:
        wanted = seeds if plans.SYSTEMS[system].headline else seeds[:1]
        assert {row.seed for row in rows if row.system == system} >= set(wanted)


def test_a_whole_table_is_there_before_other_seeds_and_switches() -> None:
    rows = plans.plan(list(plans.SYSTEMS), [0, 1], 40, long={"ours_swift": 90}, switches=["hpdm"])
    count = len(plans.SYSTEMS)
    assert [row.system for row in rows[:count]] == list(plans.SYSTEMS)
    assert [row.name for row in rows[count:]] == [
        *(f"{name}_s1" for name in ("teacher", "dropout", "anyseg", "ours")),
        "ours_teacher_middle_s0",
        "ours-hpdm_s0",
    ]
    assert {row.minutes for row in rows if row.system == "ours_swift"} == {90}
    assert {row.minutes for row in rows if row.system != "ours_swift"} == {40}


@given(
    st.floats(0.1, 300),
    st.dictionaries(st.sampled_from("abc"), st.floats(0.01, 60), min_size=1),
)
def test_steps_spend_the_budget_and_no_more(minutes: float, costs: dict[str, float]) -> None:
    steps = plans.steps_of(minutes, costs)
    share = 60 * minutes / len(costs)
    for stage, cost in costs.items():
        assert steps[stage] == 1 or steps[stage] * cost <= share * (1 + 1e-12)
        assert (steps[stage] + 1) * cost > share * (1 - 1e-12)


@pytest.mark.parametrize("data", ["street_low", "sim"])
def test_every_row_is_a_sound_recipe_of_its_steps(data: str) -> None:
    for name in ALL:
        stages = plans.system_of(name).stages
        steps = {stage: 9 + place for place, stage in enumerate(stages)}
        words = plans.words(Row(name, 5, 40), steps, (["train_*"], ["val_*"]))
        recipe = load_recipe(plans.layers(name, data), words)
        assert recipe.seed == 5 and recipe.data.workers == 0
        trained = recipe.in_stages() or {"": recipe}
        assert {stage: part.optim.steps for stage, part in trained.items()} == steps
        assert {part.validate_.every for part in trained.values()} == {3}


def test_methods_share_network_and_optimizer_and_switches_change_the_recipe() -> None:
    def recipe(name: str):
        steps = dict.fromkeys(plans.system_of(name).stages, 9)
        words = plans.words(Row(name, 0, 40), steps, (["a"], ["b"]))
        return load_recipe(plans.layers(name, "street_low"), words)

    methods = [name for name, system in plans.SYSTEMS.items() if not system.own_network]
    parts = {name: recipe(name) for name in methods}
    keys = ("backbone", "head", "head_width", "drop_path", "dropout")
    assert len({tuple(getattr(r.network, k) for k in keys) for r in parts.values()}) == 1
    optims = {r.optim.model_copy(update={"steps": 0}).model_dump_json() for r in parts.values()}
    assert len(optims) == 1
    assert {r.network.init for r in parts.values()} == {""}
    whole = recipe(plans.BASE)
    assert whole.network.architecture == "swift"
    assert all(recipe(f"ours-{switch}") != whole for switch in plans.SWITCHES)


def test_what_is_finished_is_kept_and_a_teacher_without_weights_is_trained_again() -> None:
    rows = plans.plan(["teacher", "anyseg"], [0], 40)
    assert plans.todo(rows, [], []) == rows
    assert plans.todo(rows, ["teacher_s0"], ["teacher_s0"]) == rows[1:]
    assert plans.todo(rows, ["teacher_s0"], []) == rows
    assert plans.todo(rows, ["teacher_s0", "anyseg_s0"], []) == []


@pytest.mark.parametrize("jobs", [1, 3])
def test_students_wait_for_their_teachers_and_fail_with_them(jobs: int) -> None:
    rows = plans.plan(["dropout", "anyseg", "cmnext", "rmmss_cmnext"], [0], 40)
    done, lock = [], threading.Lock()

    def work(row: Row) -> None:
        if row.system == "cmnext":
            raise RuntimeError("no memory")
        with lock:
            assert not row.teacher or row.teacher in done
            done.append(row.name)

    failed = plans.run_all(rows, jobs, work)
    assert failed == {"cmnext_s0": "no memory", "rmmss_cmnext_s0": "cmnext_s0 failed, its teacher"}
    assert sorted(done) == ["anyseg_s0", "dropout_s0", "teacher_s0"]


def account(value: float, minutes: float = 40, steps: dict[str, int] | None = None) -> dict:
    cell = {"value": value, "low": value - 0.01, "high": value + 0.02}
    trials = [{"protocol": "subsets", "ece": 0.04}, {"protocol": "nm low", "ece": 0.9}]
    return {
        "caption": "data, 9 samples; weights x",
        "figures": dict.fromkeys(reports.COLUMNS, cell),
        "confidence": {"trials": trials},
        "position_prior": 0.137,
        "training": {"notices": []},
        "budget": {"minutes": minutes, "steps": steps or {"": 700}},
    }


def test_tables_say_intervals_budgets_and_who_got_more() -> None:
    found = {
        "teacher": {0: account(0.25, minutes=80), 1: account(0.27, minutes=80)},
        "dropout": {0: account(0.24)},
        "rmmss": {0: account(0.3, steps={"robust": 300, "final": 200})},
        "ours_swift": {0: account(0.4)},
        "ours-no-solo": {0: account(0.38)},
    }
    compared = {
        "teacher_s0 rmmss_s0": {"subsets mean": [0.05, 0.04, 0.07], "nm mean": [0.05, -0.1, 0.2]},
        "ours_swift_s0 ours-no-solo_s0": {"subsets mean": [-0.02, -0.03, -0.01]},
    }
    made = reports.parts(found, compared)
    table = made["table"]
    assert "| teacher | 2 | 80 | 700 | 26.0 [25.0, 28.0] |" in table and "| 4.0 |" in table
    assert "| rmmss | 1 | 40 | 300+200 | **30.0** [29.0, 32.0] |" in table
    assert "Longer budget than the others' 40 minutes: teacher (80)." in table
    assert "rmmss: two stages share the budget" in table and "position prior): 13.7" in table
    assert "| teacher | 2 | 26.00 (25.0 to 27.0) |" in made["seeds"]
    assert "dropout" not in made["seeds"]
    cells = "| rmmss - teacher | 0 | **+5.00 [+4.0, +7.0]** | - | - | - | +5.00 [-10.0, +20.0] |"
    assert cells in made["differences"]
    ablation = "| no-solo: `student.solo=null` | 0 | **-2.00 [-3.0, -1.0]** |"
    assert ablation in made["ablation"] and "solo" not in made["differences"]


def test_everybody_is_compared_with_the_baselines_and_with_ours_once() -> None:
    found = reports.pairs([*plans.SYSTEMS, "ours-hpdm", "mine"])
    assert len(set(found)) == len(found) and not {(b, a) for a, b in found} & set(found)
    for name in plans.SYSTEMS:
        assert name == "teacher" or ("teacher", name) in found
    assert {a for a, b in found if b == "ours"} == {
        name for name in plans.SYSTEMS if not name.startswith("ours")
    }
    assert [pair for pair in found if "-" in pair[1]] == [(plans.BASE, "ours-hpdm")]
    assert reports.pairs(["anyseg", "ours-hpdm"]) == []


def test_marked_parts_of_a_document_are_made_anew_and_prose_stays() -> None:
    text = "# Mine\n\n<!-- table -->\nold\n<!-- /table -->\n\nprose \\1\n"
    text += "\n<!-- seeds -->\n<!-- /seeds -->\n"
    once = reports.filled(text, {"table": "| \\g<1> |", "seeds": ""})
    assert "old" not in once and "| \\g<1> |" in once and "prose \\1" in once
    assert reports.filled(once, {"table": "| \\g<1> |", "seeds": ""}) == once


def test_a_readme_that_somebody_wrote_is_not_replaced(tmp_path) -> None:
    path = tmp_path / reports.README
    reports.expect_generated(path)
    path.write_text(reports.MADE + "\n")
    reports.expect_generated(path)
    path.write_text("# By hand\n")
    with pytest.raises(SystemExit, match="was not made by this tool"):
        reports.expect_generated(path)


def test_rows_are_loaded_in_the_order_of_the_tables(tmp_path) -> None:
    for name in ("ours-no-solo_s0", "anyseg_s1", "anyseg_s0", "teacher_s0", "mine_s0"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"of": name}))
    (tmp_path / reports.COMPARISONS).write_text("{}")
    found = reports.load(tmp_path)
    assert list(found) == ["teacher", "anyseg", "ours-no-solo", "mine"]
    assert list(found["anyseg"]) == [0, 1]
