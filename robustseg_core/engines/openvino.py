"""OpenVINO: the encoders, and what follows the fusion, as it compiles them for this processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.engines._staged import Graph, StagedEngine
from robustseg_core.engines.precision import FP16
from robustseg_core.errors import RobustsegError, not_installed


class OpenVinoEngine(StagedEngine):
    """As `StagedEngine`.

    Graphs of float32 are computed in it: it may take halves unasked where a processor has them.
    """

    name: ClassVar = "openvino"

    def prepare(self) -> None:
        """As `StagedEngine.prepare`."""
        try:
            import openvino
        except ImportError:
            raise RobustsegError(f"engine=openvino: {not_installed('openvino')}") from None
        self._core = openvino.Core()

    def open(self, onnx: bytes, threads: int) -> Graph:
        """As `StagedEngine.open`."""
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f16" if self.precision == FP16 else "f32",
        }
        try:
            compiled = self._core.compile_model(self._core.read_model(onnx, b""), "CPU", settings)
        except RuntimeError as error:
            text = str(error).strip().partition("\n")[0]
            raise RobustsegError(
                f"OpenVINO does not take this graph ({text}); export it again, or use engine=eager"
            ) from None
        return _Compiled(compiled)

    def twin(self, graph: Graph) -> Graph:
        """As `StagedEngine.twin`."""
        assert isinstance(graph, _Compiled)
        return _Compiled(graph.compiled)


class _Compiled:
    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._request = compiled.create_infer_request()
        self._places = range(len(compiled.outputs))

    def __call__(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """As `Graph`."""
        found = self._request.infer(list(inputs), share_inputs=True, share_outputs=True)
        return [found[place] for place in self._places]
