"""Which weights a robot means: a file, by its path or name, those that are shipped, or none."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from robustseg_core import modalities
from robustseg_core.engines import Engine, artifact
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.opening import device_of, open_engine
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models import checkpoint
from robustseg_core.models.network import Network
from robustseg_core.robot.config import RobotConfig
from robustseg_core.strict import SHORT
from robustseg_core.types import ModelSpec, kind_of

log = logging.getLogger(__name__)

UNTRAINED = "untrained"
"""Instead of weights: random ones, for plumbing."""


def engine_of(config: RobotConfig) -> tuple[ModelSpec, Engine]:
    """What a robot's network expects, and what runs it.

    Raises:
        RobustsegError: the checkpoint, the device or the engine cannot be used.
    """
    device_of(config.device, config.engine)  # before the weights are read
    streams = list(dict.fromkeys(map(kind_of, config.topics)))
    exported = weights_of(config.weights, streams, size=config.input_shape)
    return exported.spec, open_engine(
        exported, device=config.device, engine=config.engine, cpu_threads=config.cpu_threads
    )


def weights_of(
    weights: str, streams: Sequence[str], *, size: tuple[int, int] | None = None
) -> Exported:
    """The network that a robot means: as `weights_file`, empty for the shipped one, or `untrained`.

    Args:
        weights: that.
        streams: modalities of the robot.
        size: (H, W) of its input, if not the checkpoint's.

    Raises:
        RobustsegError: there is no stream, or the weights cannot be used.
    """
    if not streams:
        raise RobustsegError(
            "no stream has a topic; set streams.<modality>.topic, "
            "as `robustseg inspect BAG` prints it"
        )
    if not weights:
        log.warning("no weights given: the shipped student knows simulated streets only")
        return artifact.load(checkpoint.SHIPPED, size)
    if weights != UNTRAINED:
        return artifact.load(weights_file(weights), size)
    log.warning("masks come from an UNTRAINED network, for plumbing only")
    spec = checkpoint.default_spec(modalities.ranked(streams))
    return Exported(checkpoint.untrained(checkpoint.resized(spec, size)))


def network(
    weights: str, streams: Sequence[str], *, size: tuple[int, int] | None = None
) -> Network:
    """The network of `weights_of`, whatever engine it is exported for."""
    return weights_of(weights, streams, size=size).model


def weights_file(weights: str | Path) -> Path:
    """The checkpoint or artifact that is meant: by its path, or by the name of one that is shipped.

    Raises:
        RobustsegError: it is neither.
    """
    shipped = {path.stem: path for path in checkpoint.SHIPPED.parent.glob("*.safetensors")}
    path = Path(weights)
    if str(weights) in shipped:
        return shipped[str(weights)]
    if path.suffix or os.path.exists(path) or len(path.parts) > 1:
        return path
    raise RobustsegError(
        f"no weights and no checkpoint file called {SHORT.repr(str(weights))}; "
        f"{did_you_mean(str(weights), shipped)}"
    )
