"""All reports: one base, nothing loaded from elsewhere, and in a real browser no script error."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from html import unescape

import numpy as np
import pytest

from robustseg_core.faults import parse_kill
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.output import lanes, page
from robustseg_core.output.film import VideoWriter
from robustseg_core.output.report import write
from robustseg_core.types import ModelSpec
from robustseg_core.version import __version__, note_occasion
from support import ROOT
from support.browser import browse, needs_browser

TEMPLATES = sorted(
    path
    for path in (ROOT / "robustseg_core").glob("*/*.html.j2")
    if path.name != "base.html.j2" and not path.name.startswith("_")  # a part of several
)
SPEC = ModelSpec(
    modalities=("rgb", "lidar"), classes=CITYSCAPES.names, palette=CITYSCAPES.palette, size=(32, 32)
)
HOSTILE = "<script>alert(1)</script> \u202e"


@pytest.fixture(autouse=True)
def occasion(monkeypatch):
    for name in ("ROBUSTSEG_COMMAND", "ROBUSTSEG_DATE"):
        monkeypatch.setenv(name, "")


def a_mask(at_s, used, reasons):
    states = {name: "LIVE" if name in used else "DEAD" for name in SPEC.modalities}
    return {
        "at_s": at_s,
        "stamp_ns": round(at_s * 1e9),
        "used": used,
        "reasons": reasons,
        "states": states,
        "held_ms": {},
        "latency_ms": {"total": 20.0},
    }


def a_run(folder):
    """A report of a run whose camera dies, beside a film."""
    rows = [a_mask(k / 10, ["rgb", "lidar"], {}) for k in range(10)]
    rows += [a_mask(1 + k / 10, ["lidar"], {"rgb": ["silent"]}) for k in range(10)]
    result = {
        "trained": True,
        "provenance": HOSTILE,
        "modalities": list(SPEC.modalities),
        "config": {"weights": "student.safetensors"},
        "notices": [],
        "rejected": {},
        "reasons": [
            {"modality": "rgb", "fault": "silent", "from_s": 1.0, "to_s": 1.9, "masks": 10,
             "text": f"nothing for 900 ms {HOSTILE}"}
        ],
        "masks": rows,
        "totals": {
            "masks": 20, "rate_hz": 10.0, "coverage": 1.0, "duration_s": 2.0,
            "longest_gap_ms": 100.0, "silences": [], "used": {"rgb": 10, "lidar": 20},
            "latency_ms": {"p50": 20.0},
        },
    }  # fmt: skip
    with VideoWriter(folder / "overlay.webm") as film:
        for row in rows:
            film.add(np.full((48, 64, 3), 90, np.uint8), row["at_s"])
    broken = [parse_kill("rgb@1+0.5")]
    return write(folder, result, title=f"run {HOSTILE}", spec=SPEC, broken=broken)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_report_is_of_the_one_base(template):
    text = template.read_text()
    assert text.startswith('{% extends "base.html.j2" %}') and "<style" not in text
    assert text.count("<table") == text.count('<div class="wide"><table'), "moved by themselves"


def test_a_report_says_who_made_it_when_of_what_and_what_its_words_mean(tmp_path):
    note_occasion(["robustseg", "run", "a b.mcap"], datetime(2026, 5, 4, 3, 2, tzinfo=timezone.utc))
    html = a_run(tmp_path).read_text()
    made = f"robustseg {__version__}, 2026-05-04 03:02 UTC, weights student.safetensors"
    assert made in html and "robustseg run &#39;a b.mcap&#39;" in html
    for name, color in zip(SPEC.classes, SPEC.palette, strict=True):
        assert f'rgb({", ".join(map(str, color))})"></span>{name}<' in html
    assert "<dt>DEAD, RECOVERING</dt>" in html and "width=device-width" in html
    assert "prefers-color-scheme: dark" in html


def test_nobody_is_asked_who_is_not_there(tmp_path):
    html = a_run(tmp_path).read_text()
    assert f"robustseg {__version__}, weights" in html and "<code>" not in html
    sources = re.findall(r'(?:src|href)="([^"]{0,12})', html)
    assert sources and all(s.startswith("data:") or s == "overlay.webm" for s in sources)
    assert HOSTILE not in html and "\u202e" not in html


def test_letters_are_explained_and_names_are_not():
    ((codes, meaning),) = page.letters(("rgb", "depth", "event", "lidar"))
    assert codes == "RDEL" and "E event" in meaning and "RD is rgb and depth alone" in meaning
    assert page.letters(("sonar",)) == []


def test_lanes_say_state_reason_and_limit_and_pauses_are_gaps():
    finding = {"modality": "rgb", "fault": "silent", "from_s": 1.0, "to_s": 1.9, "masks": 10,
               "text": "nothing for 900 ms, limit 215 ms"}  # fmt: skip
    rows = [a_mask(k / 10, ["rgb", "lidar"], {}) for k in range(10)]
    rows += [a_mask(1 + k / 10, ["lidar"], {"rgb": ["silent"]}) for k in range(10)]
    rows += [a_mask(4.0, ["lidar"], {"rgb": ["silent"]})]
    silence = {"from_s": 1.9, "to_s": 4.0, "why": []}
    result = {
        "modalities": ["rgb", "lidar", "radar"], "reasons": [finding], "masks": rows,
        "totals": {"duration_s": 5.0, "silences": [silence]},
    }  # fmt: skip
    camera, _, radar = lanes.lanes(result, [parse_kill("rgb@1+1")])
    live, dead, late = camera.pieces
    assert (live.at_s, live.left, live.width, live.used) == (0.0, 0.0, 20.0, True)
    assert "rgb DEAD, in no mask, 1.00 s to 2.15 s: silent" in dead.text
    assert "limit 215 ms" in dead.text and not dead.used and late.at_s == 4.0
    assert [one.left for one in camera.broken] == [20.0] and not radar.broken
    assert dead.left + dead.width <= lanes.empty(result)[0].left, "no lane crosses the pause"
    assert {name for name, _ in lanes.legend(result)} == {"LIVE", "DEAD", "DISABLED"}
    many = [a_mask(k / 10, [], {"rgb": [("late", "silent")[k % 2]]}) for k in range(900)]
    flickers = {**result, "masks": many, "totals": {"duration_s": 90.0, "silences": []}}
    assert len(lanes.lanes(flickers)[0].pieces) == 1


LANES = """(() => {
  const film = document.querySelector("video"), said = document.querySelector(".said");
  const pieces = [...document.querySelector(".lane").querySelectorAll("button")];
  pieces[1].focus();
  const told = said.textContent;
  pieces[1].click();
  const box = pieces[1].getBoundingClientRect();
  return JSON.stringify([pieces.length, told, film.currentTime, box.width > 20, box.height > 20]);
})()"""


@needs_browser
@pytest.mark.slow
def test_in_a_browser_a_lane_tells_its_reason_and_drives_the_film(tmp_path):
    title, said = browse(a_run(tmp_path), LANES, "--window-size=390,800")
    assert "CONSOLE" not in said, said
    count, told, at_s, wide, tall = json.loads(unescape(title))
    assert count == 2 and told.startswith("rgb DEAD, in no mask, 1.00 s to 2.00 s: silent")
    assert at_s == 1 and wide and tall


SORTING = """(() => {
  const table = document.querySelector("table.sorts"), [head] = table.rows;
  const told = () => [...table.tBodies[0].rows].slice(1).map((row) => row.cells[0].textContent);
  const found = [told()];
  for (const _ of [1, 2]) { head.cells[0].querySelector("button").click(); found.push(told()); }
  const film = document.querySelector("video");
  const button = document.querySelector("button[data-at]");
  button.focus(); button.click();
  const keyboard = document.activeElement === button && film.currentTime !== undefined;
  const wide = document.documentElement.scrollWidth <= window.innerWidth;
  const dark = getComputedStyle(document.body).backgroundColor;
  return JSON.stringify([found, keyboard, wide, head.cells[0].getAttribute("aria-sort"), dark]);
})()"""


@needs_browser
@pytest.mark.slow
def test_in_a_browser_tables_sort_seconds_lead_to_the_film_and_no_script_fails(tmp_path):
    title, said = browse(a_run(tmp_path), SORTING, "--window-size=390,800")
    assert "CONSOLE" not in said, said
    (before, up, down), keyboard, wide, order, page_color = json.loads(title)
    assert before == up == ["0.000", "1.000"] and down == ["1.000", "0.000"]
    assert keyboard and wide and order == "descending" and page_color == "rgb(255, 255, 255)"
    title, _ = browse(a_run(tmp_path), SORTING, "--blink-settings=preferredColorScheme=0")
    assert json.loads(title)[4] == "rgb(13, 17, 23)", "dark where dark is liked"


@needs_browser
@pytest.mark.slow
def test_a_script_error_would_be_seen(tmp_path):
    path = a_run(tmp_path)
    path.write_text(path.read_text().replace('"use strict";', "nothing.is.there();"))
    _, said = browse(path, "'done'")
    assert "CONSOLE" in said and "nothing is not defined" in said
