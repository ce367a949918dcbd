"""The image encoders of Segment Anything, versions 1 and 2."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch

from relspace.features.models.vision import VisionFamily

_JOINED = ("query", "key", "value")


def _joined_parts(
    tensor: torch.Tensor, part: str, config: Any, block: int, size: tuple[int, int]
) -> torch.Tensor:
    """Take one of query, key and value, and put windows of attention back into their map."""
    if part not in _JOINED:
        return tensor
    one = tensor.chunk(len(_JOINED), dim=-1)[_JOINED.index(part)]
    rows, columns = (_tokens_across(config, block, side) for side in size)
    side = one.shape[1]
    if (side, one.shape[2]) == (rows, columns):
        return one
    # Windows lie side by side, the last ones padded.
    down, right = -(-rows // side), -(-columns // side)
    windows = one.reshape(-1, down, right, side, side, one.shape[-1])
    whole = windows.transpose(2, 3).reshape(len(windows), down * side, right * side, -1)
    return whole[:, :rows, :columns]


def _tokens_across(config: Any, block: int, side: int) -> int:
    """Count the tokens along one side of what goes into a block."""
    backbone = getattr(config, "backbone_config", None)
    if backbone is None:
        return int(side // config.patch_size)
    # Version 2 embeds with padding, and halves its grid inside of the first block of a stage.
    tokens = -(-side // int(backbone.patch_stride[0]))
    starts = list(accumulate(backbone.blocks_per_stage))[: backbone.num_query_pool_stages]
    for _ in filter(lambda start: start < block, starts):
        tokens //= int(backbone.query_stride[0])
    return tokens


SAM = VisionFamily(
    title="SAM",
    model_types=("sam", "sam_vision_model"),
    architecture="SamVisionModel",
    layout="bhwc",
    parts={**dict.fromkeys(_JOINED, ("attn.qkv",)), "mlp": ("mlp",)},
    joined_parts=_joined_parts,
    size="fixed",
    output_layout="bchw",
)


def _n_blocks(config: Any) -> int:
    return int(sum(config.backbone_config.blocks_per_stage))


def _shift(stride: float) -> float:
    # The patch embedding is a convolution of 7 pixels in steps of 4, padded by 3: its first window
    # is centred on pixel 0, 1.5 pixels before the centre of the first 4. Pooling keeps that.
    return -1.5


SAM2 = VisionFamily(
    title="SAM 2",
    model_types=("sam2", "sam2_video", "sam2_vision_model"),
    architecture="Sam2VisionModel",
    layout="bhwc",
    n_blocks=_n_blocks,
    parts={**dict.fromkeys(_JOINED, ("attn.qkv",)), "mlp": ("mlp",)},
    joined_parts=_joined_parts,
    is_patched=False,
    shift=_shift,
    size="any",
    within={
        "sam2": ("Sam2Model", "vision_encoder"),
        "sam2_video": ("Sam2VideoModel", "vision_encoder"),
    },
)
