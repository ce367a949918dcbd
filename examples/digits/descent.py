"""Gradient descent on small networks, the same for the same batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


def descend(
    network: N,
    loss: Callable[[], Tensor],
    n_steps: int,
    *,
    learning_rate: float,
    weight_decay: float,
    largest_gradient: float | None = None,
) -> N:
    """Minimise the loss of each batch by AdamW, whose learning rate rises and falls once.

    ``learning_rate`` is the highest rate, ``largest_gradient`` the norm that gradients are cut to.
    The network learns in place and comes back in evaluation mode.
    """
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, n_steps)
    for _ in range(n_steps):
        value = loss()
        optimizer.zero_grad()
        torch.autograd.backward(value)
        if largest_gradient is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), largest_gradient)
        optimizer.step()
        rate.step()
    return network.eval()
