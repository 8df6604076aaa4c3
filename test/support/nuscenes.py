"""The moment of nuScenes that mmdetection3d publishes as demo data, packed as a recording.

Six cameras (1600x900) and the LiDAR on the roof with their calibration. It is one keyframe; a
recording repeats it at their rate of 2 Hz, the first time byte for byte, then with a sensor's
noise, as a camera that sends the same bytes again and again is frozen.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from robustseg_core.bag import BagWriter
from robustseg_core.types import MS, SECOND
from support.makers import camera_info, cloud, header, make, transform

REPOSITORY, COMMIT = "open-mmlab/mmdetection3d", "fe25f7a51"
FOLDER = "demo/data/nuscenes"
INFO = "n015-2018-07-24-11-22-45+0800.pkl"
PERIOD = SECOND // 2
HEIGHT, WIDTH = 900, 1600
_POINT = [(name, "<f4") for name in ("x", "y", "z", "intensity", "ring")]
"""Of a .pcd.bin; the ring is a whole number."""


class _Plain(pickle.Unpickler):
    """Numbers, words and lists of NumPy's scalars, and nothing that does anything."""

    def find_class(self, module: str, name: str) -> Any:
        """Of what such a file consists of."""
        import _codecs

        from numpy.core import multiarray

        known = {"dtype": np.dtype, "scalar": multiarray.scalar, "encode": _codecs.encode}
        if module.partition(".")[0] not in ("numpy", "_codecs") or name not in known:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a calibration")
        return known[name]


def write_bag(path: Path, published: Callable[[str, str, str], Path], seconds: float) -> Path:
    """That moment, again and again, by the topics of config/robots/six_cameras.yaml."""

    def read(name: str) -> bytes:
        return published(REPOSITORY, COMMIT, f"{FOLDER}/{name}").read_bytes()

    (moment,) = _Plain(io.BytesIO(read(INFO))).load()["data_list"]
    scan = moment["lidar_points"]
    points = np.frombuffer(read(scan["lidar_path"]), _POINT)
    jpegs = {name: read(camera["img_path"]) for name, camera in moment["images"].items()}
    start = round(moment["timestamp"] * 1000) * MS - PERIOD
    rows: list[tuple[int, str, Any]] = []
    for k in range(int(seconds * SECOND / PERIOD)):
        rng = np.random.default_rng(k)
        for name, camera in moment["images"].items():
            stamp_ns = round(camera["timestamp"] * 1000) * MS + k * PERIOD
            data = noisy(jpegs[name], rng) if k else jpegs[name]
            picture = make(
                "sensor_msgs/msg/CompressedImage",
                header=header(stamp_ns, name),
                format="rgb8; jpeg compressed bgr8",
                data=np.frombuffer(data, np.uint8),
            )
            rows.append((stamp_ns, f"/{name}/image_rect_compressed", picture))
        stamp_ns = round(moment["timestamp"] * 1000) * MS + k * PERIOD
        swept = points.copy()
        for axis in "xyz":
            swept[axis] += rng.normal(0, 0.01, len(swept)).astype("<f4")
        rows.append((stamp_ns, "/LIDAR_TOP", cloud(swept, stamp_ns, "LIDAR_TOP")))
    with BagWriter(path) as writer:
        placed = {name: camera["cam2ego"] for name, camera in moment["images"].items()}
        for name, pose in (placed | {"LIDAR_TOP": scan["lidar2ego"]}).items():
            matrix = np.array(pose)
            turned = tuple(Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist())
            tf = transform("base_link", name, tuple(matrix[:3, 3].tolist()), turned)
            writer.write("/tf_static", "tf2_msgs/msg/TFMessage", tf, start, latched=True)
        for name, camera in moment["images"].items():
            info = camera_info(HEIGHT, WIDTH, frame_id=name)
            info.k = np.array(camera["cam2img"], np.float64).ravel()
            info.p = np.hstack([np.array(camera["cam2img"]), np.zeros((3, 1))]).ravel()
            writer.write(f"/{name}/camera_info", "sensor_msgs/msg/CameraInfo", info, start)
        for stamp_ns, topic, message in sorted(rows, key=lambda row: row[0]):
            writer.write(topic, message.__msgtype__, message, stamp_ns + 20 * MS)
    return path


def noisy(jpeg: bytes, rng: np.random.Generator) -> bytes:
    """The picture as a camera's next exposure of it would be."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    grain = rng.integers(-3, 4, picture.shape, np.int16)
    seen = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
