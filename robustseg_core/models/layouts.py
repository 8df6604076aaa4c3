"""The namings of public checkpoints, told apart by the names of their tensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MIT = (
    r"(patch_embed[1-4]\.(proj|norm)|norm[1-4]|block[1-4]\.\d+\."
    r"(norm[12]|attn\.(q|kv|proj|sr|norm)|mlp\.(fc[12]|dwconv\.dwconv)))\.(weight|bias)"
)
_HEAD = (
    r"(linear_c[1-4]\.proj\.(weight|bias)|linear_fuse\.conv\.weight|linear_pred\.(weight|bias)"
    r"|linear_fuse\.bn\.(weight|bias|running_mean|running_var|num_batches_tracked))"
)
_HUB_MIT = (
    r"(patch_embeddings\.\d\.(proj|layer_norm)|layer_norm\.\d|block\.\d\.\d+\."
    r"(layer_norm_[12]|attention\.self\.(query|key|value|sr|layer_norm)|attention\.output\.dense"
    r"|mlp\.(dense[12]|dwconv\.dwconv)))\.(weight|bias)"
)
_HUB_HEAD = (
    r"(linear_c\.\d\.proj\.(weight|bias)|linear_fuse\.weight|classifier\.(weight|bias)"
    r"|batch_norm\.(weight|bias|running_mean|running_var|num_batches_tracked))"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which a public code names the tensors of its network."""

    name: str
    title: str
    """What people know it by."""
    pattern: str
    """Regular expression of every name that it may have, without wrappers."""

    def fits(self, name: str) -> bool:
        """Whether a tensor may be called so."""
        return re.fullmatch(self.pattern, unwrapped(name)) is not None


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "m-segformer",
            "M-SegFormer (encoder., decoder., as AnySeg, RobustSeg and RMMSS save it)",
            rf"encoder\.{_MIT}|decoder\.{_HEAD}|classifier\.weight",
        ),
        Layout(
            "nvlabs",
            "SegFormer (backbone., decode_head., as NVlabs' code on mmseg saves it)",
            rf"backbone\.{_MIT}|decode_head\.{_HEAD}|(decode_head\.conv_seg|auxiliary_head)\..+",
        ),
        Layout(
            "hub",
            "SegFormer (segformer.encoder., decode_head., as transformers saves it)",
            rf"segformer\.encoder\.{_HUB_MIT}|decode_head\.{_HUB_HEAD}",
        ),
        Layout(
            "cmnext",
            "CMNeXt (backbone.extra_..., backbone.FRMs., backbone.FFMs.)",
            rf"backbone\.{_MIT}|decode_head\.{_HEAD}|backbone\.(extra_[a-z_]+\d?|FRMs|FFMs)\..+",
        ),
        Layout(
            "mit",
            "a MiT encoder alone, as ImageNet training leaves it",
            rf"{_MIT}|head\.(weight|bias)|segformer\.encoder\.{_HUB_MIT}|classifier\.(weight|bias)",
        ),
    )
}


def whole(names: Iterable[str]) -> list[str]:
    """The layouts that have all of these names, in the order of `LAYOUTS`."""
    every = list(names)
    return [key for key, layout in LAYOUTS.items() if every and all(map(layout.fits, every))]


def nearest(names: Iterable[str], *, count: int = 2) -> list[tuple[Layout, int]]:
    """The layouts that have most of these names, best first, and how many they have."""
    every = list(names)
    scores = [(layout, sum(map(layout.fits, every))) for layout in LAYOUTS.values()]
    return sorted(scores, key=lambda pair: -pair[1])[:count]


def unwrapped(name: str) -> str:
    """`name` without what data-parallel training and trainers put before it."""
    while name.startswith(("module.", "model.")):
        name = name.partition(".")[2]
    return name


def told(names: Iterable[str]) -> str:
    """What people are told of names that are of no layout: the nearest ones, the first odd name."""
    every = list(names)
    if not every:
        return "it has no tensor; give weights"
    (best, fitting), *others = nearest(every)
    odd = next((name for name in every if not best.fits(name)), every[0])
    also = "".join(f", then {layout.title} ({n})" for layout, n in others)
    return (
        f"the nearest layout is {best.title}, which {fitting} of its {len(every)} names fit{also}; "
        f"the first that does not fit is {odd!r}"
    )
