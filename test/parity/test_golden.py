"""Against recorded figures of the published code: each row of docs/specs/parity.md, and float32."""

from __future__ import annotations

import importlib

import pytest
import torch

from support import golden_losses, parity
from support.golden import bits, fill, picture, sha256_of_fill, unit
from support.golden_losses import CASES, RELEASED, TERMS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", parity.names())
def test_every_row_of_the_page_is_theirs_and_is_written_down(name):
    part = importlib.import_module(f"support.parity.{name}")
    rows = list(part.rows())
    assert not [row for row in rows if not row.good]
    written = parity.written()[part.TITLE]
    assert [row.what for row in rows] == [cells[0] for cells in written], "run test/parity/run.py"
    for row, (_, official, ours, difference, allowed) in zip(rows, written, strict=True):
        assert official == f"{row.official:.7g}"
        assert float(ours) == pytest.approx(row.ours, rel=1e-5, abs=1e-12)
        assert float(difference) <= float(allowed)
        assert float(allowed) == row.allowed


def test_the_page_has_the_parts_and_no_others():
    assert list(parity.written()) == [part.TITLE for part in parity.parts().values()]


@pytest.mark.parametrize("name", golden_losses.terms_of("c0"))
def test_a_term_is_theirs_in_single_precision(name):
    for case in CASES:
        if name not in golden_losses.terms_of(case):
            continue
        told = golden_losses.facts(case)["values_in_float32"][name]
        value, gradient = golden_losses.measured(case, name, torch.float32)
        assert value.ours == pytest.approx(told, rel=1e-5)
        assert value.difference < 1e-5
        assert gradient.difference < 1e-5


FLAGS = [
    (name, flag)
    for name, (_, options) in TERMS.items()
    for flag in options
    if flag.startswith("legacy_") and flag != "legacy_noise"  # its random numbers are told
]


@pytest.mark.parametrize(("name", "flag"), FLAGS, ids=map("-".join, FLAGS))
def test_each_habit_makes_a_difference(name, flag, monkeypatch):
    """So that none of the options is there for nothing, and the comparison would find it."""
    distiller, options = TERMS[name]
    monkeypatch.setitem(TERMS, name, (distiller, {**options, flag: False}))
    case = "c0" if name == "hpdm_random" else "c1"
    assert golden_losses.measured(case, name)[0].difference > 1e-3


def test_the_recipes_say_what_is_released():
    for released in RELEASED:
        assert any(word.startswith("distill.prediction=") for word in released.words())
    assert "student.missing=zero" in RELEASED[1].words()
    assert "student.missing=zero" not in RELEASED[2].words()


def test_the_formulas_are_the_same_bits_on_every_machine():
    assert bits(1, 2).tolist() == [5046631899840037604, 16717222514326610955]
    assert unit(1, (2,)).tolist() == [0.27357846347706083, 0.9062424483978249]
    row = picture(700, (1, 3, 128, 128))[0, 0, 0, :2].tolist()
    assert row == [0.944588303565979, 0.363707572221756]
    shapes = {"a.weight": (4, 3), "a.bias": (4,), "n.weight": (4,), "n.running_var": (4,)}
    digest = sha256_of_fill(fill(shapes, 50000))
    assert digest == "5665499d48bf7acb9656837b01c97e48a7a0357d59e610a3ca922708b74cae89"
    assert sha256_of_fill(fill(dict(reversed(shapes.items())), 50000)) == digest
