"""What people should know of a replay that is over: damage, remarks, sensors without a mask."""

from __future__ import annotations

from collections.abc import Collection

from robustseg_core.bag import Bag
from robustseg_core.output.fault_codes import WANTED
from robustseg_core.output.reasons import UNFIT
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import Reasons, sentence


def notices(bag: Bag, segmenter: Segmenter, unused: Reasons) -> list[str]:
    """What people should know of a replay that is over, a sentence each.

    Damage of the recording, the segmenter's remarks, and why sensors were never used.

    Args:
        bag: the recording.
        segmenter: that it was played through.
        unused: as `absent` has them.
    """
    told = (
        f"{name} was never used: {sentence(found)}"
        for name, found in unused.items()
        if not any(finding.fault in WANTED for finding in found)
    )
    return [*bag.notices, *segmenter.remarks(), *told]


def absent(
    bag: Bag, segmenter: Segmenter, used: Collection[str], reasons: Reasons | None = None
) -> Reasons:
    """Modality -> why it made no mask, of those that are not in `used`.

    Args:
        bag: the recording.
        segmenter: that it was played through.
        used: the sensors that made a mask.
        reasons: why sensors were not in the newest mask: of one that is believed, and still late
            for every set, health knows none.
    """
    return {
        name: health.findings or (reasons or {}).get(name, ()) or (UNFIT,)
        for name, health in segmenter.health(bag.start_ns).items()
        if name not in used
    }
