"""A packed network in the graphs of a foreign runtime, and the fusion between them in PyTorch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.engines import _graphs
from robustseg_core.engines._base import Memory, NetworkEngine, told
from robustseg_core.engines.eager import share_cores
from robustseg_core.engines.precision import FP32
from robustseg_core.models.network import Network
from robustseg_core.types import Bundle


class Graph(Protocol):
    """A graph of fixed shapes, ready to run."""

    def __call__(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Its outputs, which hold until it is called again."""
        ...


class StagedEngine(NetworkEngine):
    """Runs a packed network on a processor: a graph per sensor, fusion, a graph for the rest.

    Args:
        model: a segmenter whose sensors are encoded each by itself.
        graphs: name -> ONNX, as `_graphs.graphs` makes them; None: they are made now, which takes
            seconds.
        precision: of the graphs, see `engines.precision`.
        cpu_threads: of this whole process; 0: all cores but one (`share_cores`).
        observer: called with (graph's name, its inputs) before each run of a graph; it keeps
            copies, if anything.

    Raises:
        RobustsegError: it is another network, or something is not installed.
    """

    def __init__(
        self,
        model: Network,
        graphs: Mapping[str, bytes] | None = None,
        *,
        precision: str = FP32,
        cpu_threads: int = 0,
        observer: Callable[[str, Sequence[NDArray[np.float32]]], None] = lambda name, inputs: None,
    ) -> None:
        share_cores(torch.device("cpu"), threads=cpu_threads)
        super().__init__(model.spec)
        self.precision = precision
        self._observer = observer
        self.prepare()
        self._model = _graphs.expect_packed(model, self.name).folded().cpu()
        known = _graphs.graphs(self._model) if graphs is None else graphs
        threads = torch.get_num_threads()
        opened = {name: self.open(onnx, threads) for name, onnx in known.items()}
        # A graph's outputs are its own memory, and maps are kept: each sensor has a graph's twin.
        self._graphs = {
            name: _graphs.encoder_of(self._model, column)
            for column, name in enumerate(self.spec.modalities)
        }
        self._encoders = {name: self.twin(opened[graph]) for name, graph in self._graphs.items()}
        self._decoder = opened.get(_graphs.DECODER)
        self.memory = Memory()

    def prepare(self) -> None:
        """Import the runtime.

        Raises:
            RobustsegError: it is not installed.
        """

    @abstractmethod
    def open(self, onnx: bytes, threads: int) -> Graph:
        """A graph, ready to run with so many threads.

        Raises:
            RobustsegError: the runtime does not take it.
        """

    def twin(self, graph: Graph) -> Graph:
        """The same graph with outputs of its own."""
        return graph

    def logits(self, bundle: Bundle) -> Tensor:
        """As `NetworkEngine.logits`."""
        columns = [c for c, name in enumerate(self.spec.modalities) if name in bundle.frames]
        names = [self.spec.modalities[column] for column in columns]
        images = {n: torch.from_numpy(frame.array)[None] for n, frame in bundle.frames.items()}
        alive = torch.tensor([[name in bundle.frames for name in self.spec.modalities]])
        self._model.check(images, alive)
        for name in self.memory.news(bundle):
            self.memory.forget(name)
            image = [np.ascontiguousarray(images[name].numpy())]
            self._observer(self._graphs[name], image)
            maps = self._encoders[name](image)
            here = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in maps]
            self.memory.keep(name, bundle.frames[name], here)
        self.memory.prune(bundle)
        modality = torch.tensor(columns)
        packed = [torch.cat(x) for x in zip(*self.memory.maps(names), strict=True)]
        fused = self._model.fuse(
            packed,
            torch.zeros_like(modality),
            modality,
            batch=1,
            quality=torch.tensor(told(bundle, names)),
        )
        if self._decoder is None:
            return self._model.decode(fused)
        fused_maps = [x.permute(0, 2, 3, 1).contiguous().numpy() for x in fused]
        self._observer(_graphs.DECODER, fused_maps)
        maps = self._decoder(fused_maps)
        return torch.from_numpy(maps[0])
