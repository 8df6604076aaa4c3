"""The moving average of weights beside that of PyTorch."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robustseg_core.learn.loop import _update_ema

DECAY = 0.99


def test_it_is_that_of_pytorch_but_for_counts() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    ours = copy.deepcopy(model)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    theirs.update_parameters(model)  # the first time it copies
    for _ in range(20):
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(torch.randn_like(weights), alpha=0.1)
        model(torch.randn(2, 3, 9, 9))  # moves the running means
        _update_ema(ours, model, DECAY)
        theirs.update_parameters(model)
    for name, value in ours.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, theirs.module.state_dict()[name]), name
    assert int(ours[1].num_batches_tracked) == 20
    assert int(theirs.module[1].num_batches_tracked) != 20, "then ours is no longer needed for it"
