"""A packed network's parts as ONNX graphs: an encoder of one image, and what follows the fusion.

Every runtime reads these. The fusion stays with PyTorch: it depends on the subset and on the
sensors' health, and costs little. Maps go in and out as (1, h, w, C), as they lie in memory.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.models.head import FoldedHead
from robustseg_core.models.network import Network, PackedNetwork

OPSET = 17
DECODER = "decode"


class Encoder(nn.Module):
    """One image (1, C, H, W) of one sensor to its maps (1, h_s, w_s, C_s)."""

    def __init__(self, model: PackedNetwork, column: int) -> None:
        super().__init__()
        self.model, self.column = model, column

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """As the class says."""
        maps = self.model.encode_one(image, self.column)
        return tuple(x.permute(0, 2, 3, 1).contiguous() for x in maps)


class Decoder(nn.Module):
    """A scene's maps (1, h_s, w_s, C_s) to logits (1, K, h, w)."""

    def __init__(self, model: PackedNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, *maps: Tensor) -> Tensor:
        """As the class says."""
        return self.model.decode([x.permute(0, 3, 1, 2) for x in maps])


def expect_packed(model: Network, engine: str) -> PackedNetwork:
    """The network, if it encodes each sensor by itself.

    Raises:
        RobustsegError: its sensors meet inside the encoder.
    """
    if isinstance(model, PackedNetwork):
        return model
    raise RobustsegError(
        f"the engine {engine} runs networks that encode each sensor by itself, and the sensors of "
        f"a {model.spec.architecture} meet inside its encoder; use engine=eager"
    )


def encoder_of(model: PackedNetwork, column: int) -> str:
    """The name of the graph that encodes this sensor; one for all that have no weights of their
    own."""
    return "encode" if model.alike else f"encode_{model.spec.modalities[column]}"


def decodes(model: PackedNetwork) -> bool:
    """Whether a graph pays after the fusion; the folded head by rows is faster than any."""
    return not isinstance(model.head, FoldedHead)


def graphs(model: PackedNetwork) -> dict[str, bytes]:
    """name -> ONNX, of a folded network on a processor.

    Raises:
        RobustsegError: `onnx` is not installed.
    """
    made: dict[str, bytes] = {}
    for column, name in enumerate(model.spec.modalities):
        image = torch.zeros(1, model.spec.channels_of(name), *model.spec.size)
        if encoder_of(model, column) not in made:
            made[encoder_of(model, column)] = _onnx(Encoder(model, column), (image,))
    if decodes(model):
        with torch.no_grad():
            maps = Encoder(model, 0)(image)
        made[DECODER] = _onnx(Decoder(model), maps)
    return made


def _onnx(module: nn.Module, examples: Sequence[Tensor]) -> bytes:
    try:
        import onnx  # noqa: F401  # torch.onnx needs it, and says so at length
    except ImportError:
        raise RobustsegError(f"a network is exported as ONNX: {not_installed('onnx')}") from None
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing shapes, which are fixed here
        torch.onnx.export(
            module.eval(),
            tuple(examples),
            file,  # type: ignore[arg-type]  # files do as well as paths
            input_names=[f"in{i}" for i in range(len(examples))],
            opset_version=OPSET,
            dynamo=False,  # the other one needs a package more, and as many seconds
        )
    return file.getvalue()
