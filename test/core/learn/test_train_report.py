"""The page at the end of a training: what was noted, and nothing where nothing was."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from robustseg_core.learn import train_report
from robustseg_core.models import checkpoint

ROWS = [
    {"step": "10", "lr": "0.1", "loss": "3", "ce": "2", "a$_<b>": "1", "val": "", "val/RD": ""},
    {
        "step": "20",
        "lr": "0.1",
        "loss": "2",
        "ce": "1",
        "a$_<b>": "1",
        "val": "0.5",
        "val/RD": "0.6",
    },
    {"step": "30", "lr": "0", "loss": "nan", "ce": "1", "a$_<b>": "", "val": "0.4", "val/RD": ""},
]
RESULT = {
    "system": "<b>ours</b>",
    "steps": 30,
    "best_step": 20,
    "best": 0.5,
    "rule": "mean",
    "seconds": 12.3,
    "left_out": [],
}


def test_the_table_is_of_the_weights_that_were_chosen():
    assert train_report.best_row(ROWS, RESULT) == [("the rule that chooses", 0.5), ("RD", 0.6)]
    assert train_report.best_row(ROWS, {**RESULT, "best_step": 30})[1:] == []
    assert train_report.best_row(ROWS, {**RESULT, "best_step": 7}) == []


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []], ids=len)
def test_curves_of_any_log_are_a_picture(rows):
    png = np.frombuffer(train_report.curves(rows), np.uint8)
    picture = cv2.imdecode(png, cv2.IMREAD_COLOR)
    assert picture is not None and picture.std() > 1


def test_the_page_holds_result_recipe_and_classes(tmp_path):
    names = list(ROWS[0])
    lines = [",".join(names), *(",".join(row.values()) for row in ROWS)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text("system: ours\noptim:\n  steps: 30\n")
    spec = checkpoint.default_spec()
    train_report.write(tmp_path, RESULT, spec)
    page = (tmp_path / "report.html").read_text()
    assert "Training: &lt;b&gt;ours&lt;/b&gt;" in page and "step 20 is in best.safetensors" in page
    assert "<td>RD</td><td>60.0</td>" in page and "  steps: 30\n" in page
    assert all(f"</span>{name}<" in page for name in spec.classes)
    assert json.dumps("data:image/png")[1:-1] in page
