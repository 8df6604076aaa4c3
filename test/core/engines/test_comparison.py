"""Rivals are asked in turn, and the one that pays is recommended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from robustseg_core.engines import comparison
from robustseg_core.engines.bench import Bench
from robustseg_core.engines.comparison import Times, compare
from robustseg_core.errors import RobustsegError

RIVAL = """
import json, sys
for line in sys.stdin:
    print(json.dumps({answer}), flush=True)
"""


def rival(answer: str) -> list[str]:
    return [sys.executable, "-c", RIVAL.format(answer=answer)]


def test_each_is_asked_for_each_number_of_sensors():
    seen: list[tuple[int, int]] = []
    times = compare(
        {"a": rival("[int(line), 2 * int(line)]"), "b": rival("[7, 8]")},
        (1, 4),
        rounds=3,
        threads=1,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert times["a"][4] == Times([4.0] * 3, [8.0] * 3) and times["b"][1].cpu == [7.0] * 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("answer", "says"), [("'no runtime; install it'", "no runtime"), ("1 / 0", "b stopped")]
)
def test_one_that_cannot_is_named(answer: str, says: str, capfd):
    with pytest.raises(RobustsegError, match=says):
        compare({"b": rival(answer)}, (1,), rounds=1, threads=1)


def test_what_is_prepared_is_not_counted(monkeypatch, capsys):
    made: list[int] = []

    def runner(count: int):
        made.append(count)
        return lambda: None

    monkeypatch.setattr(comparison.sys, "stdin", ["1\n", "4\n"])
    comparison.serve(lambda: runner)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert made == [1, 4] and all(len(answer) == 2 for answer in answers)


def bench(**walls: tuple[float, float]) -> Bench:
    times = {
        name: {1: Times([w[0]], [w[0]]), 4: Times([w[1]], [w[1]])} for name, w in walls.items()
    }
    return Bench("x.safetensors", (64, 96), 2, 1, times, ("onnxruntime",))


def test_the_fastest_is_recommended_where_it_pays():
    assert bench(eager=(10, 40), openvino=(8, 20)).best == "openvino"
    assert bench(eager=(10, 40), openvino=(1, 38)).best == "eager"
    advice = bench(eager=(10, 40), openvino=(8, 20)).advice()
    assert "robustseg export x.safetensors --engine openvino --out x.rseg" in advice
    assert "onnxruntime (pip install 'robustseg[engines]')" in advice


def test_results_are_written_for_people_and_machines(tmp_path: Path):
    made = bench(eager=(10, 40), openvino=(8, 20))
    made.write(tmp_path)
    account = json.loads((tmp_path / "bench.json").read_text())
    assert account["recommended"] == "openvino" and account["engines"][-1]["times_as_fast"] == 2
    assert "| openvino | 4 | 20.0 | 20.0 | 2.00 |" in (tmp_path / "bench.md").read_text()
    assert (tmp_path / "bench.png").read_bytes()[1:4] == b"PNG"
    assert made.table().row_count == 4
