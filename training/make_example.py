"""Make the moment that `robustseg_core.example()` gives: what four simulated sensors see at once.

    python training/make_example.py [NPZ]

Street 7 of the simulator, 4 s after its start, by `docs/examples/predict_arrays.py`, and stored as
cameras would: JPEG, depth in centimetres, half-precision points in front of the car.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "robustseg_core" / "weights" / "example.npz"


def main(words: list[str]) -> int:
    """Entry point; the exit code."""
    out = Path(words[0]) if words else OUT
    moment = runpy.run_path(str(ROOT / "docs" / "examples" / "predict_arrays.py"))["moment"]()
    seen, lens = moment.inputs, moment.camera
    centimetres = np.round(seen["depth"] * 100).astype(np.uint16)
    ahead = seen["lidar"][seen["lidar"][:, 0] > 0]
    events = seen["event"]
    np.savez_compressed(
        out,
        rgb=cv2.imencode(".jpg", seen["rgb"][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1],
        depth=cv2.imencode(".png", centimetres)[1],
        lidar=ahead.astype(np.float16),
        x=events["x"].astype(np.uint16),
        y=events["y"].astype(np.uint16),
        t_us=(events["t_us"] - events["t_us"][0]).astype(np.uint16),
        polarity=np.packbits(events["polarity"].astype(bool)),
        **{f"K_{name}": np.array(lens[name]["K"]) for name in ("rgb", "event")},
        **{f"size_{name}": np.array(lens[name]["size"]) for name in ("rgb", "event")},
        **{f"T_{name}": moment.extrinsics[name] for name in ("depth", "event", "lidar")},
    )
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
