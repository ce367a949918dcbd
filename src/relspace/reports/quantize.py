"""Rows of the common space in a few bytes each, so that a page can carry and compare them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_count
from relspace.errors import InvalidInputError
from relspace.reports.page.data import Quantization

_SAMPLED_ROWS = 8192
_SAMPLED_PAIRS = 20_000
_LARGEST = 127


def quantize_rows(
    blocks: Sequence[torch.Tensor], n_components: int = 48, *, random_state: int = 0
) -> tuple[list[NDArray[np.int8]], Quantization]:
    r"""Project standardised rows of the common space and round them to a byte per component.

    The product of two rows of unit norm is their correlation. The d axes that keep most of all such
    products are the leading eigenvectors of the rows' second moment (Eckart and Young 1936), and

    .. math:: r_{ij} \approx \sum_k s_k^2 q_{ik} q_{jk}

    with integers q from -127 to 127 and a step s_k per axis. Blocks (n_b, m) become (n_b, d), int8.

    Examples
    --------
    >>> import torch, relspace
    >>> from relspace.reports.quantize import quantize_rows
    >>> X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    >>> space = relspace.align({"a": X, "b": 3 * X})
    >>> (a, b), quantization = quantize_rows([space["a"], space["b"]], 16)
    >>> a.shape, a.dtype
    ((60, 16), dtype('int8'))
    >>> quantization.error < 0.1
    True
    """
    check_count(n_components, "n_components")
    widths = {block.shape[1] for block in blocks}
    if len(widths) != 1:
        raise InvalidInputError(
            f"blocks have {sorted(widths)} columns; rows of one common space have the same."
        )
    generator = torch.Generator().manual_seed(random_state)
    sample = _sample(blocks, _SAMPLED_ROWS, generator).double()
    axes = torch.linalg.eigh(sample.T @ sample).eigenvectors.flip(1)[:, :n_components]
    projected = [(block.detach() @ axes.to(block)).cpu() for block in blocks]
    steps = torch.stack([one.abs().amax(dim=0) for one in projected]).amax(dim=0) / _LARGEST
    steps = torch.where(steps > 0, steps, torch.ones_like(steps))
    vectors = [(one / steps).round().to(torch.int8) for one in projected]

    rows = _sample(blocks, _SAMPLED_ROWS, torch.Generator().manual_seed(random_state + 1)).double()
    scaled = ((rows @ axes) / steps.double()).round() * steps.double()
    pairs = torch.randint(len(rows), (2, _SAMPLED_PAIRS), generator=generator)
    pairs = pairs[:, pairs[0] != pairs[1]]
    exact, approximate = ((one[pairs[0]] * one[pairs[1]]).sum(dim=1) for one in (rows, scaled))
    errors = (approximate - exact).abs()
    return [one.numpy() for one in vectors], Quantization(
        scales=steps.numpy(),
        n_columns=widths.pop(),
        energy=float((rows @ axes).square().sum() / rows.square().sum()),
        error=float(errors.square().mean().sqrt()),
        error_95=float(errors.quantile(0.95)),
        n_pairs=pairs.shape[1],
    )


def _sample(
    blocks: Sequence[torch.Tensor], n_rows: int, generator: torch.Generator
) -> torch.Tensor:
    """Rows drawn from all blocks, evenly."""
    share = -(-n_rows // len(blocks))
    chosen = [
        block[torch.randperm(len(block), generator=generator)[:share]].detach().cpu()
        for block in blocks
    ]
    return torch.cat(chosen)
