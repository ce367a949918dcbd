"""Convolutional networks: ResNet and ConvNeXt, whose layers are the ends of their stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relspace.features.models.vision import VisionFamily


def _n_stages(config: Any) -> int:
    return len(config.depths)


def _centered_on_first_pixel(stride: float) -> float:
    # Odd kernels with "same" padding centre every window on its first pixel, whatever the stride
    # (Araujo et al. 2019, Computing receptive fields of convolutional neural networks).
    return 0.5 - stride / 2


RESNET = VisionFamily(
    title="ResNet",
    model_types=("resnet",),
    architecture="ResNetModel",
    layout="bchw",
    n_blocks=_n_stages,
    parts={},
    is_patched=False,
    shift=_centered_on_first_pixel,
    size="any",
)

# ConvNeXt goes down by windows as wide as their stride, so its tokens are cells.
CONVNEXT = VisionFamily(
    title="ConvNeXt",
    model_types=("convnext",),
    architecture="ConvNextModel",
    layout="bchw",
    n_blocks=_n_stages,
    parts={},
    is_patched=False,
    size="any",
)

CONVNEXT_V2 = replace(
    CONVNEXT, title="ConvNeXt V2", model_types=("convnextv2",), architecture="ConvNextV2Model"
)
