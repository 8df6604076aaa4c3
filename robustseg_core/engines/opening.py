"""Which engine runs a network: the one that is asked for, or the best of those that there are."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping

import torch

from robustseg_core.engines import Engine
from robustseg_core.engines._staged import StagedEngine
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.engines.fallback import FallbackEngine
from robustseg_core.errors import RobustsegError, did_you_mean, not_installed
from robustseg_core.models.network import Network, PackedNetwork

log = logging.getLogger(__name__)

AUTO, EAGER = "auto", "eager"
RUNTIMES: Mapping[str, str] = {"openvino": "openvino", "onnxruntime": "onnxruntime"}
"""Engine -> the module that it needs; they run graphs on the CPU."""
ENGINES = (AUTO, EAGER, *RUNTIMES)


def installed(engine: str) -> bool:
    """Whether what this engine needs can be imported."""
    return engine not in RUNTIMES or importlib.util.find_spec(RUNTIMES[engine]) is not None


def device_of(name: str, engine: str) -> torch.device:
    """Where an engine runs: `auto` is the CPU for one that knows nothing else.

    Raises:
        RobustsegError: no such device, or none that this engine runs on.
    """
    device = pick_device("cpu" if name == "auto" and engine in RUNTIMES else name)
    if engine in RUNTIMES and device.type != "cpu":
        raise RobustsegError(
            f"engine is {engine!r}, which runs on the CPU here, and device is {name!r}; set "
            "device=cpu, or engine=eager"
        )
    return device


def choose(asked: str, exported: Exported, device: torch.device) -> str:
    """The engine for a network, of what a robot asks for.

    `auto` is the engine that an artifact was exported for, and `eager` for a plain checkpoint:
    making graphs takes seconds, which `robustseg export` spends once.

    Raises:
        RobustsegError: no such engine.
    """
    if asked not in ENGINES:
        raise RobustsegError(f"engine is {asked!r}; {did_you_mean(asked, ENGINES)}")
    if asked != AUTO:
        return asked
    wanted = exported.engine or EAGER
    if wanted in RUNTIMES and device.type != "cpu":
        return EAGER
    if wanted not in ENGINES:
        log.warning("the weights are for an engine %r, which nobody knows; eager runs", wanted)
        return EAGER
    if not installed(wanted):
        log.warning(
            "the weights are exported for %s: %s; until then eager runs them, slower",
            wanted,
            not_installed(RUNTIMES[wanted]),
        )
        return EAGER
    return wanted


def open_engine(
    exported: Exported, *, device: str = "auto", engine: str = AUTO, cpu_threads: int = 0
) -> Engine:
    """What runs a network: on a GPU, the CPU stands by for the day when it fails.

    Args:
        exported: an artifact, or a plain checkpoint.
        device: auto, cpu, cuda or cuda:N.
        engine: one of `ENGINES`.
        cpu_threads: of this process's networks, on a CPU; 0: all cores but one.

    Raises:
        RobustsegError: no such device or engine, or one that cannot run this network here.
    """
    where = device_of(device, engine)
    name = choose(engine, exported, where)
    if name in RUNTIMES:
        return _on_graphs(name, exported, cpu_threads)
    made = EagerEngine(exported.model, where, cpu_threads=cpu_threads)
    if where.type == "cpu":
        return made
    cpu = torch.device("cpu")
    return FallbackEngine(made, lambda: EagerEngine(exported.model, cpu, cpu_threads=cpu_threads))


def _on_graphs(name: str, exported: Exported, cpu_threads: int) -> Engine:
    graphs = exported.graphs or None
    if graphs is None:
        log.info("making the graphs of engine %s; `robustseg export` does it once", name)
    kind = staged(name)
    return kind(exported.model, graphs, precision=exported.precision, cpu_threads=cpu_threads)


def staged(name: str) -> type[StagedEngine]:
    """The engine of one of `RUNTIMES`.

    Raises:
        RobustsegError: there is no such runtime.
    """
    if name == "openvino":
        from robustseg_core.engines.openvino import OpenVinoEngine

        return OpenVinoEngine
    if name == "onnxruntime":
        from robustseg_core.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine
    raise RobustsegError(f"engine is {name!r}; {did_you_mean(name, RUNTIMES)}")


def candidates(model: Network) -> list[str]:
    """The engines that run this network on this machine's CPU."""
    packed = isinstance(model, PackedNetwork)
    return [EAGER, *(name for name in RUNTIMES if packed and installed(name))]
