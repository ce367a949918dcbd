"""The image encoders of Segment Anything, versions 1 and 2."""

from __future__ import annotations

from typing import Any

from relspace.features.families.vision import VisionFamily

# Queries, keys and values of SAM are computed within windows, so they are no maps.
SAM = VisionFamily(
    title="SAM",
    model_types=("sam", "sam_vision_model"),
    architecture="SamVisionModel",
    layout="bhwc",
    parts={"mlp": ("mlp",)},
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
    parts={"mlp": ("mlp",)},
    is_patched=False,
    shift=_shift,
    size="any",
)
