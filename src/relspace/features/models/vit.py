"""Vision transformers trained on labels (ViT), by DINO (v1), and by masking (MAE)."""

from __future__ import annotations

from typing import Any

import torch

from relspace.features.models.vision import VisionFamily, class_token


def _keep_all(config: Any, images: torch.Tensor) -> dict[str, Any]:
    # MAE drops random patches; increasing noise with nothing to drop keeps all, in order.
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    n = (images.shape[2] // patch) * (images.shape[3] // patch)
    noise = torch.arange(n, dtype=torch.float32, device=images.device)
    return {"noise": noise.expand(len(images), n)}


# Checkpoints of DINO have no pooler, and transformers would make one at random.
VIT = VisionFamily(
    title="ViT",
    model_types=("vit",),
    architecture="ViTModel",
    n_prefix=class_token,
    load_arguments={"add_pooling_layer": False},
)

MAE = VisionFamily(
    title="MAE",
    model_types=("vit_mae",),
    architecture="ViTMAEModel",
    n_prefix=class_token,
    arguments=_keep_all,
    load_arguments={"mask_ratio": 0.0},
)
