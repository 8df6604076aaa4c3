"""Plain arrays in, one class per pixel out: the product without bags, topics or time.

    predictor = robustseg_core.load("street")
    result = predictor.predict({"rgb": image, "lidar": points}, camera=K, extrinsics={"lidar": T})

Any non-empty subset of the network's sensors will do: what is missing, or says nothing at all, is
left out, never filled in.
Each call stands alone. What a sensor gives:

* rgb: (H, W, 3) uint8 RGB. OpenCV reads BGR, and nobody can tell: give `image[..., ::-1]`.
* depth: (H, W) floats, metres along the optical axis; 0, NaN or infinity where unknown.
* lidar: (N, 3) or (N, 4), x, y, z in metres in the sensor's own frame, and intensity in any unit.
* event: a mapping or a structured array of x, y (pixels), t_us (whole microseconds) and polarity
  (1 or True: brighter; 0, -1 or False: darker). A mapping may say `size`, (H, W) of the sensor, and
  `until_us`, the moment to look back from; that of the last event, if it does not.

`predictor.py` does it; `calibration.py` checks cameras and mounts, `result.py` is what comes back,
`sample.py` has four sensors to try it on.
"""

from robustseg_core.predictor.calibration import CameraLike
from robustseg_core.predictor.predictor import Predictor, load
from robustseg_core.predictor.result import Result
from robustseg_core.predictor.sample import EXAMPLE, Example, example

__all__ = ["EXAMPLE", "CameraLike", "Example", "Predictor", "Result", "example", "load"]
