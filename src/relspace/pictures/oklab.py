"""OKLab: a colour space in which equal distances look equally different."""

from __future__ import annotations

import torch

# Ottosson (2020), A perceptual color space for image processing.
_LAB_TO_LMS = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_LMS_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
_RGB_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LMS_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_HALVINGS = 16


def oklab_to_linear(lab: torch.Tensor) -> torch.Tensor:
    """Convert OKLab (..., 3) to linear sRGB, which leaves [0, 1] for colours out of gamut."""
    to_lms = torch.tensor(_LAB_TO_LMS, dtype=lab.dtype, device=lab.device)
    to_rgb = torch.tensor(_LMS_TO_RGB, dtype=lab.dtype, device=lab.device)
    return (lab @ to_lms.T).pow(3) @ to_rgb.T


def oklab_to_srgb(lab: torch.Tensor) -> torch.Tensor:
    """Convert OKLab (..., 3) to sRGB in [0, 1]; out of gamut, chroma is reduced and hue is kept.

    Examples
    --------
    >>> import torch
    >>> from relspace.pictures.oklab import oklab_to_srgb
    >>> oklab_to_srgb(torch.tensor([[1.0, 0.0, 0.0], [0.627955, 0.224863, 0.125846]])).round(
    ...     decimals=2
    ... )
    tensor([[1., 1., 1.],
            [1., 0., 0.]])
    """
    share = torch.ones_like(lab[..., :1])
    low, high = torch.zeros_like(share), share
    chroma = lab * lab.new_tensor([0.0, 1.0, 1.0])
    grey = lab - chroma
    for _ in range(_HALVINGS):
        linear = oklab_to_linear(grey + share * chroma)
        inside = ((linear >= -1e-4) & (linear <= 1 + 1e-4)).all(dim=-1, keepdim=True)
        low, high = torch.where(inside, share, low), torch.where(inside, high, share)
        share = torch.where(inside & (high == 1), share, (low + high) / 2)
    linear = oklab_to_linear(grey + low * chroma).clamp(0.0, 1.0)
    return torch.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9).pow(1 / 2.4) - 0.055
    ).clamp(0.0, 1.0)


def srgb_to_oklab(srgb: torch.Tensor) -> torch.Tensor:
    """Convert sRGB (..., 3) to OKLab, where distances say how different two colours look."""
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055).pow(2.4))
    to_lms = torch.tensor(_RGB_TO_LMS, dtype=srgb.dtype, device=srgb.device)
    to_lab = torch.tensor(_LMS_TO_LAB, dtype=srgb.dtype, device=srgb.device)
    return (linear @ to_lms.T).clamp_min(0.0).pow(1 / 3) @ to_lab.T
