"""DINOv2, with and without registers, and DINOv3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relspace.features.models.vision import VisionFamily


def _class_and_registers(config: Any) -> int:
    # Plain DINOv2 has no registers, and no such entry.
    return 1 + int(getattr(config, "num_register_tokens", 0))


DINOV2 = VisionFamily(
    title="DINOv2",
    model_types=("dinov2",),
    architecture="Dinov2Model",
    n_prefix=_class_and_registers,
    size="any",
)

DINOV2_REGISTERS = replace(
    DINOV2,
    title="DINOv2 with registers",
    model_types=("dinov2_with_registers",),
    architecture="Dinov2WithRegistersModel",
)

DINOV3 = replace(DINOV2, title="DINOv3", model_types=("dinov3_vit",), architecture="DINOv3ViTModel")
