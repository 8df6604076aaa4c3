"""What the validation of the best weights saw is kept with them, and shown at the end."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from robustseg_core.evaluation.frames import Gallery
from robustseg_core.evaluation.protocols import Trial
from robustseg_core.learn import seen, train_report
from robustseg_core.learn.validate import KEPT, Judged
from robustseg_core.metrics import confusion
from support.browser import browse, needs_browser
from support.eval_samples import CLASSES, NAMES, network, random_samples

RESULT = {
    "system": "ours",
    "steps": 30,
    "best_step": 20,
    "best": 0.5,
    "rule": "four",
    "seconds": 12.3,
    "left_out": [],
}


def judged(samples) -> Judged:
    gallery, counts = Gallery(KEPT, {}), np.zeros((4, 5), np.int64)
    for sample in samples:
        labels = np.full_like(sample.label, 2)
        own = confusion(sample.label, labels, 4)
        counts += own
        gallery.offer(sample, Trial("subsets", NAMES), labels, own)
    return Judged({"val": 0.5}, counts, gallery)


class Process:
    """Of several, each of which has something to say to the others."""

    def __init__(self, rank: int, everybody: list[Judged]) -> None:
        self.global_rank, self.world_size = rank, len(everybody)
        self._said = [(j.gallery.best, j.gallery.worst, j.gallery.some) for j in everybody]

    def broadcast(self, own, src: int):
        return self._said[src]


SAMPLES = random_samples(8, size=(32, 32))
ALONE = SimpleNamespace(global_rank=0, world_size=1, broadcast=lambda own, src: own)


def names(found: seen.Seen) -> list[list[str]]:
    return [[f.id for f in getattr(found, kind)] for kind in ("best", "worst", "some")]


@pytest.mark.parametrize("world", [2, 3, 9])
def test_processes_show_what_one_would(world):
    everybody = [judged(SAMPLES[rank::world]) for rank in range(world)]
    alone = seen.gathered(ALONE, judged(SAMPLES), 20)
    assert [len(kind) for kind in names(alone)] == [3, 3, 3]
    for rank in range(world):
        assert names(seen.gathered(Process(rank, everybody), everybody[rank], 20)) == names(alone)


def test_it_comes_back_only_as_it_was_and_for_the_step_it_is_of(tmp_path):
    found = seen.gathered(ALONE, judged(SAMPLES), 20)
    assert seen.load(tmp_path, 20, 4) is None
    found.save(tmp_path)
    back = seen.load(tmp_path, 20, 4)
    assert names(back) == names(found) and np.array_equal(back.counts, found.counts)
    assert seen.load(tmp_path, 30, 4) is None and seen.load(tmp_path, 20, 5) is None
    path = tmp_path / seen.NAME
    path.write_bytes(path.read_bytes()[:-200])
    assert seen.load(tmp_path, 20, 4) is None


def report(folder, **result) -> str:
    (folder / "recipe.yaml").write_text("system: ours\n")
    (folder / "log.csv").write_text("step,lr,loss,val\n20,0.1,2,0.5\n")
    train_report.write(folder, {**RESULT, **result}, network().spec)
    return (folder / "report.html").read_text()


def test_a_report_ends_with_the_confusion_and_the_frames(tmp_path):
    seen.gathered(ALONE, judged(SAMPLES), 20).save(tmp_path)
    page = report(tmp_path)
    assert page.count('<th scope="row">') == len(CLASSES.names)
    assert page.count("predicted from rgb, depth, event, lidar</figcaption>") == 9
    for word in ("Confusion, all sensors", "Some frames", "Worst frames", "Best frames"):
        assert f"<h2>{word}</h2>" in page


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({}, "validation.npz, which is kept with the best weights, is missing"),
        ({"best": None, "best_step": 30, "rule": "last step"}, "No validation data was given"),
    ],
)
def test_a_report_says_why_it_has_no_frames(tmp_path, result, said):
    page = report(tmp_path, **result)
    assert said in page and "Confusion, all sensors" not in page


CONTRASTS = """(() => {
  const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    .getContext("2d", {willReadFrequently: true});
  const light = (color) => {  // WCAG 2.1, relative luminance
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const linear = (c) => c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (cell) => {
    const style = getComputedStyle(cell);
    const both = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
    return (both[1] + 0.05) / (both[0] + 0.05);
  };
  const cells = [...document.querySelectorAll("table.heat td")].filter((c) => c.textContent);
  const colors = new Set(cells.map((c) => getComputedStyle(c).backgroundColor)).size;
  const wide = document.documentElement.scrollWidth <= window.innerWidth;
  return JSON.stringify([Math.min(...cells.map(contrast)), colors, wide]);
})()"""


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", [(), ("--blink-settings=preferredColorScheme=0",)], ids=len)
def test_in_a_browser_every_number_can_be_read_and_a_phone_is_wide_enough(tmp_path, theme):
    seen.gathered(ALONE, judged(SAMPLES), 20).save(tmp_path)
    report(tmp_path)
    title, said = browse(tmp_path / "report.html", CONTRASTS, "--window-size=390,800", *theme)
    least, colors, fits = json.loads(title)
    assert "CONSOLE" not in said, said
    assert least >= 4.5 and colors > 1 and fits  # WCAG 2.1, 1.4.3: of text
