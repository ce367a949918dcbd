"""Joint pictures: one concept gets one colour after alignment, and only then."""

from __future__ import annotations

import torch

from relspace.demo.joint_pictures import joint_pictures
from relspace.demo.retrieval import Patches

N_IMAGES, SIDE, PARTS = 6, 6, ("left", "middle", "right")


def turned(meaning: torch.Tensor, width: int) -> torch.Tensor:
    """Features of another width, at nearly the same distances."""
    generator = torch.Generator().manual_seed(width)
    basis = torch.linalg.qr(torch.randn(width, meaning.shape[1], generator=generator)).Q
    return meaning @ basis.T + 0.05 * torch.randn(len(meaning), width, generator=generator)


def test_colors_agree_after_alignment_and_do_not_before() -> None:
    generator = torch.Generator().manual_seed(0)
    columns = torch.arange(SIDE).repeat(N_IMAGES * SIDE)
    parts = columns // 2
    images = torch.arange(N_IMAGES).repeat_interleave(SIDE * SIDE)
    rows = torch.arange(SIDE).repeat_interleave(SIDE).repeat(N_IMAGES)
    # Nobody can tell what the last patch shows.
    parts[-1] = -1
    centers = torch.stack([rows, columns], dim=1).double() / SIDE
    shown = Patches(images, parts, centers, PARTS)
    meaning = torch.randn(4, 10, generator=generator)[parts]
    meaning += 0.3 * torch.randn(meaning.shape, generator=generator)
    layers = {
        f"{name}, last": (tokens[::3], tokens)
        for name, tokens in {"a": turned(meaning, 12), "b": turned(meaning, 16)}.items()
    }
    given = {"n_nodes": 200, "n_signs": 3, "queries_per_part": 20, "jitter": 0.01}
    panels, numbers = joint_pictures(
        layers,
        dict.fromkeys(layers, (SIDE, SIDE)),
        dict.fromkeys(layers, shown),
        **given,
        random_state=0,
    )
    assert {when: set(joint.colors) for when, joint in panels.items()} == {
        "before": set(layers),
        "after": set(layers),
    }
    assert panels["after"].colors["a, last"].shape == (N_IMAGES, SIDE, SIDE, 3)
    assert numbers["after"]["consistency"] < 0.2
    assert numbers["before"]["consistency"] > 2 * numbers["after"]["consistency"]
    assert numbers["after"]["retrieval"]["mean"] > 0.9
