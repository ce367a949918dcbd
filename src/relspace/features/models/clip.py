"""The vision towers of CLIP and SigLIP."""

from __future__ import annotations

from relspace.features.models.vision import VisionFamily, class_token

CLIP = VisionFamily(
    title="CLIP",
    model_types=("clip", "clip_vision_model"),
    architecture="CLIPVisionModel",
    n_prefix=class_token,
)

SIGLIP = VisionFamily(
    title="SigLIP",
    model_types=("siglip", "siglip_vision_model"),
    architecture="SiglipVisionModel",
)
