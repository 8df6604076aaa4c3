"""Frames to look at: the same ones whoever sees them in whatever order, and as rows of a matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.evaluation.frames import PICTURE_WIDTH, Gallery
from robustseg_core.evaluation.parts import packed, unpacked
from robustseg_core.evaluation.protocols import Trial
from robustseg_core.evaluation.report import panels
from robustseg_core.evaluation.tables import NOTHING, confusion_matrix
from robustseg_core.metrics import confusion
from support.eval_samples import CLASSES, NAMES, random_samples

FULL, ALONE = Trial("subsets", NAMES), Trial("subsets", NAMES[:1])
SAMPLES = random_samples(12, size=(32, 800), lacking={3: ["rgb"]})


def shown(samples, *, batch=4):
    """A gallery of these, batch after batch, trial after trial, as `Counts` does it."""
    gallery = Gallery(2, {}, [ALONE.subset])
    for start in range(0, len(samples), batch):
        for trial in (ALONE, FULL):
            for sample in samples[start : start + batch]:
                if trial == ALONE and "rgb" not in sample.images:
                    continue
                labels = sample.label.copy()
                labels[:, : 20 * (1 + int(sample.id[1:]))] = 0
                if gallery.wants(sample, trial, full=trial == FULL):
                    gallery.offer(sample, trial, labels, confusion(sample.label, labels, 4))
    return gallery


def told(frames):
    return [(f.id, f.score, f.sensors, list(f.others), f.labels.tobytes()) for f in frames]


def test_best_and_worst_are_of_two_scenes_each_and_small():
    gallery = shown(SAMPLES)
    assert [f.id for f in gallery.best] == ["f0", "f2"], "f1 is of f0's scene"
    assert [f.id for f in gallery.worst] == ["f11", "f9"]
    for frame in (*gallery.best, *gallery.worst, *gallery.some):
        assert frame.picture.shape == (16, PICTURE_WIDTH, 3)
        assert frame.truth.shape == frame.labels.shape == (16, PICTURE_WIDTH)
        assert frame.sensors == tuple(n for n in NAMES if n != "rgb" or frame.id != "f3")
    assert [list(f.others) for f in gallery.some] == [[("rgb",)]] * 2


@given(st.permutations(range(12)), st.integers(1, 12), st.integers(0, 12))
def test_neither_order_nor_who_saw_which_changes_what_is_shown(order, batch, cut):
    whole = shown(SAMPLES)
    mixed = [SAMPLES[k] for k in order]
    both = Gallery(2, {})
    for part in (mixed[:cut], mixed[cut:]):
        own = shown(part, batch=batch)
        both.add(own.best, own.worst, own.some)
    for kind in ("best", "worst", "some"):
        assert told(getattr(both, kind)) == told(getattr(whole, kind))


def test_frames_come_back_from_a_file_as_they_were():
    frames = shown(SAMPLES).some
    rows, arrays = packed(frames, "some_")
    back = unpacked(rows, arrays, "some_")
    assert told(back) == told(frames)
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(back, frames, strict=True))


def test_a_frame_is_its_picture_its_truth_and_what_was_said_by_whom():
    (first, _) = panels(shown(SAMPLES).some, CLASSES.palette)
    assert [title for title, _ in first["pictures"]] == [
        "picture",
        "truth",
        "predicted from rgb, depth, event, lidar",
        "predicted from rgb",
    ]


def test_rows_of_the_confusion_are_what_became_of_the_truth():
    counts = np.array([[6, 2, 0, 0, 0], [1, 1, 0, 0, 2], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    found = confusion_matrix(counts, CLASSES.names)
    assert found.columns == ("road", "wall", NOTHING) and found.absent == ("sky", "car")
    assert [(row.name, row.shares) for row in found.rows] == [
        ("road", (0.75, 0.25, 0.0)),
        ("wall", (0.25, 0.25, 0.5)),
    ]
    assert [row.iou for row in found.rows] == pytest.approx([6 / 9, 1 / 6])
    assert [row.pixels for row in found.rows] == pytest.approx([8 / 12, 4 / 12])
