"""Full precision of float32 products: no TF32 and no bfloat16, even if the program allows them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_in_use = 0
_undo = ExitStack()


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in float32, without TF32, bfloat16 or autocast.

    The settings of torch are global; they are restored when the last thread leaves.
    """
    global _in_use
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        with _lock:
            if _in_use == 0:
                _forbid_reduced()
            _in_use += 1
        try:
            yield
        finally:
            with _lock:
                _in_use -= 1
                if _in_use == 0:
                    _undo.close()


def _forbid_reduced() -> None:
    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        # Before torch 2.9 one setting stands for all.
        _undo.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        return
    # The old functions fail where the new settings were used, so these are read and set alone.
    for setting in (backends.cuda.matmul, backends.mkldnn.matmul):
        allowed = setting.fp32_precision
        if allowed not in ("none", "ieee"):
            _undo.callback(_allow, setting, allowed)
            setting.fp32_precision = "ieee"


def _allow(setting: Any, precision: str) -> None:
    """Restore a setting; if it was inherited from the global one, it is inherited again."""
    setting.fp32_precision = "none"
    if setting.fp32_precision != precision:
        setting.fp32_precision = precision


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix product of a and b in full precision, with a gradient in full precision."""
    found: torch.Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return found


class _Product(torch.autograd.Function):
    """A product with its own gradient, which is computed after full_precision() was left."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        with full_precision():
            return a @ b

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = ctx.saved_tensors
        (gradient,) = gradients
        with full_precision():
            return gradient @ b.mT, a.mT @ gradient
