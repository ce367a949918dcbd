"""The drawing of portraits: varied faces with a mask that says which part each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from examples.portraits.sampling import Sampler
from examples.portraits.shapes import box, ellipse, inside, ring

SIDE = 96
PARTS = ("background", "hair", "skin", "eyes", "nose", "mouth", "clothes")
_BACKGROUND, _HAIR, _SKIN, _EYES, _NOSE, _MOUTH, _CLOTHES = range(len(PARTS))

_SKIN_TONES = (
    (0.98, 0.85, 0.76),
    (0.93, 0.76, 0.62),
    (0.84, 0.64, 0.48),
    (0.70, 0.50, 0.35),
    (0.52, 0.35, 0.24),
    (0.36, 0.24, 0.17),
)
_HAIR_TONES = (
    (0.08, 0.07, 0.08),
    (0.22, 0.14, 0.09),
    (0.42, 0.26, 0.14),
    (0.62, 0.40, 0.20),
    (0.86, 0.70, 0.40),
    (0.66, 0.26, 0.10),
    (0.70, 0.70, 0.70),
    (0.30, 0.20, 0.45),
)
_IRIS_TONES = ((0.25, 0.15, 0.08), (0.20, 0.38, 0.55), (0.25, 0.42, 0.25), (0.35, 0.35, 0.38))


@dataclass(frozen=True)
class Portraits:
    """Drawn portraits and what they show.

    Attributes
    ----------
    images : tensor of shape (n, 3, 96, 96)
        sRGB in [0, 1].
    parts : ByteTensor of shape (n, 96, 96)
        The part that each pixel shows, as an index into :data:`PARTS`.
    """

    images: Tensor
    parts: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, items: Tensor) -> Portraits:
        """Some of the portraits."""
        return Portraits(self.images[items], self.parts[items])


class _Canvas:
    """Images under the brush: every stroke covers what lies below, in colour and in the mask."""

    def __init__(self, ground: Tensor) -> None:
        n, _, side, _ = ground.shape
        self.images = ground
        self.parts = torch.full((n, side, side), _BACKGROUND, dtype=torch.uint8)

    def paint(self, coverage: Tensor, color: Tensor, part: int | None) -> None:
        """Cover pixels; ``part`` None leaves the mask, as for shadows and glasses."""
        self.images = torch.lerp(self.images, color.expand_as(self.images), coverage[:, None])
        if part is not None:
            self.parts[coverage > 0.5] = part


@dataclass(frozen=True)
class _Pose:
    """Where pixels lie in the frame of the head, whose half-width is 1 (y points down)."""

    x: Tensor
    y: Tensor
    edge: Tensor
    turn: Tensor
    height: Tensor


def draw_portraits(n: int, random_state: int) -> Portraits:
    """Draw portraits that differ in everything: pose, skin, hair, hats, glasses, clothes, light.

    Parameters
    ----------
    n : int
        How many.
    random_state : int
        Seed; the same portraits for the same seed and number.

    Returns
    -------
    Portraits
        Images and their parts. Brows belong to the eyes, beards to the hair, hats to the clothes.
    """
    sample = Sampler(n, random_state)
    pose = _pose(sample)
    skin = sample.tone(_SKIN_TONES, 0.04)
    hair = sample.tone(_HAIR_TONES, 0.04)
    canvas = _Canvas(_background(sample))
    styles = sample.choice((0.08, 0.30, 0.30, 0.20, 0.12))
    _paint_back_hair(canvas, pose, sample, hair, styles)
    _paint_body(canvas, pose, sample, skin)
    _paint_head(canvas, pose, sample, skin)
    _paint_features(canvas, pose, sample, skin, hair)
    _paint_beard(canvas, pose, sample, hair)
    _paint_mouth(canvas, pose, sample, skin)
    _paint_front_hair(canvas, pose, sample, hair, styles)
    _paint_glasses_and_hat(canvas, pose, sample)
    return Portraits(_light(canvas.images, sample), canvas.parts)


def _pose(sample: Sampler) -> _Pose:
    places = torch.arange(SIDE) + 0.5
    size = sample.uniform(19.0, 30.0)
    across = places[None, None, :] - sample.uniform(0.32, 0.68) * SIDE
    down = places[None, :, None] - sample.uniform(0.34, 0.60) * SIDE
    tilt = sample.uniform(-0.45, 0.45)
    x = (across * tilt.cos() + down * tilt.sin()) / size
    y = (down * tilt.cos() - across * tilt.sin()) / size
    return _Pose(x, y, 1 / size, sample.uniform(-0.30, 0.30), sample.uniform(1.15, 1.40))


def _background(sample: Sampler) -> Tensor:
    """A gradient, stripes, or clouds in two colours."""
    first, second = sample.color(0.15, 0.95), sample.color(0.15, 0.95)
    places = torch.linspace(-1, 1, SIDE)
    angle = sample.uniform(0.0, 6.28)
    along = places[None, None, :] * angle.cos() + places[None, :, None] * angle.sin()
    stripes = (along * sample.uniform(4.0, 16.0)).sin() * 3
    mix = torch.where(sample.chance(0.3), stripes.clamp(-1, 1), along)
    mix = torch.where(sample.chance(0.4), sample.clouds(SIDE, 7) * 1.5, mix)
    return torch.lerp(first, second, (mix / 2 + 0.5).clamp(0, 1)[:, None])


def _paint_back_hair(
    canvas: _Canvas, pose: _Pose, sample: Sampler, hair: Tensor, styles: Tensor
) -> None:
    """Styles: 0 bald, 1 short, 2 long, 3 curly, 4 bun."""
    curls = sample.clouds(SIDE, 16) * 0.16
    zero = torch.zeros_like(pose.edge)
    long_half = (sample.uniform(1.05, 1.35), sample.uniform(1.0, 1.7))
    long = ellipse(
        pose.x, pose.y, (zero, -0.25 + zero), (long_half[0], pose.height * 1.15), pose.edge
    )
    long = torch.maximum(
        long,
        box(pose.x, pose.y, (zero, long_half[1] - 0.3), (long_half[0], long_half[1]), pose.edge),
    )
    radius = sample.uniform(1.30, 1.75)
    curly = inside(
        radius - ((pose.x.square() + (pose.y + 0.5).square() + 1e-6).sqrt()) + curls, pose.edge
    )
    bun = ellipse(
        pose.x,
        pose.y,
        (sample.uniform(-0.4, 0.4), -pose.height - 0.25),
        (sample.uniform(0.35, 0.5), sample.uniform(0.35, 0.5)),
        pose.edge,
    )
    coverage = torch.where(styles == 2, long, torch.zeros_like(long))
    coverage = torch.where(styles == 3, curly, coverage)
    coverage = torch.where(styles == 4, bun, coverage)
    canvas.paint(coverage, _strands(hair * 0.85, pose, sample), _HAIR)


def _strands(hair: Tensor, pose: _Pose, sample: Sampler) -> Tensor:
    waves = (pose.x * sample.uniform(7.0, 14.0) + sample.clouds(SIDE, 12) * 2).sin()
    return (hair * (1 + 0.22 * waves[:, None])).clamp(0, 1)


def _paint_body(canvas: _Canvas, pose: _Pose, sample: Sampler, skin: Tensor) -> None:
    zero = torch.zeros_like(pose.edge)
    chin = pose.height
    lean = sample.uniform(-0.15, 0.15)
    top = chin + sample.uniform(0.30, 0.50)
    shoulders = ellipse(
        pose.x,
        pose.y,
        (lean, top + 2.2),
        (sample.uniform(1.7, 2.5), 2.2 + zero),
        pose.edge,
    )
    first, second = sample.color(0.05, 0.95), sample.color(0.05, 0.95)
    angle = sample.uniform(0.0, 6.28)
    pattern = ((pose.x * angle.cos() + pose.y * angle.sin()) * sample.uniform(5.0, 14.0)).sin()
    pattern = torch.where(sample.chance(0.5), pattern * 4, torch.full_like(pattern, -1.0))
    clothes = torch.lerp(first, second, (pattern / 2 + 0.5).clamp(0, 1)[:, None])
    canvas.paint(shoulders, clothes, _CLOTHES)
    neck = box(
        pose.x, pose.y, (lean / 2, chin), (sample.uniform(0.36, 0.50), 0.55 + zero), pose.edge
    )
    canvas.paint(neck, skin * 0.82, _SKIN)
    collar = sample.uniform(0.25, 0.95)
    opening = torch.minimum(
        collar - (pose.x - lean).abs() * sample.uniform(0.9, 1.6) - (pose.y - top - 0.05),
        pose.y - top + 0.25,
    )
    canvas.paint(inside(opening, pose.edge) * shoulders, skin * 0.9, _SKIN)


def _paint_head(canvas: _Canvas, pose: _Pose, sample: Sampler, skin: Tensor) -> None:
    zero = torch.zeros_like(pose.edge)
    for side in (-1.0, 1.0):
        ear = (side * 0.98 - 0.3 * pose.turn, 0.05 + zero)
        canvas.paint(
            ellipse(pose.x, pose.y, ear, (0.17 + zero, 0.27 + zero), pose.edge), skin * 0.88, _SKIN
        )
    # A jaw narrower than the forehead.
    jaw = 1 - sample.uniform(0.0, 0.28) * (pose.y / pose.height).clamp(0, 1)
    face = ellipse(pose.x / jaw, pose.y, (zero, zero), (1 + zero, pose.height), pose.edge)
    lit = sample.sign() * (pose.x + 0.2 * pose.y)
    shade = 1 - (0.16 * lit.clamp(-1, 1) + 0.05 * pose.x.square().clamp(0, 1))
    canvas.paint(face, (skin * shade[:, None]).clamp(0, 1), _SKIN)
    cheeks = skin * skin.new_tensor([1.0, 0.82, 0.80])[:, None, None]
    for place in (-0.5, 0.5):
        blush = (place + pose.turn, 0.42 + zero)
        spot = ellipse(pose.x, pose.y, blush, (0.25 + zero, 0.18 + zero), 6 * pose.edge)
        canvas.paint(0.5 * spot, cheeks, None)


def _paint_features(
    canvas: _Canvas, pose: _Pose, sample: Sampler, skin: Tensor, hair: Tensor
) -> None:
    zero = torch.zeros_like(pose.edge)
    apart, level = sample.uniform(0.36, 0.48), sample.uniform(-0.22, -0.02)
    width, open_ = sample.uniform(0.20, 0.29), sample.uniform(0.08, 0.17)
    iris = sample.tone(_IRIS_TONES, 0.05)
    gaze = sample.uniform(-0.08, 0.08)
    brow_lift, brow_slant = sample.uniform(0.22, 0.32), sample.uniform(-0.25, 0.25)
    white = torch.full_like(skin, 0.95)
    for side in (-1.0, 1.0):
        x = side * apart + pose.turn
        eye = ellipse(pose.x, pose.y, (x, level), (width, open_), pose.edge)
        socket = ellipse(pose.x, pose.y, (x, level), (width + 0.06, open_ + 0.09), pose.edge)
        canvas.paint(socket, skin * 0.78, _EYES)
        canvas.paint(eye, white, _EYES)
        ball = ellipse(
            pose.x, pose.y, (x + gaze, level), (open_.clamp_min(0.11), open_ + 0.02), pose.edge
        )
        canvas.paint(eye * ball, iris, _EYES)
        pupil = ellipse(pose.x, pose.y, (x + gaze, level), (0.06 + zero, 0.06 + zero), pose.edge)
        canvas.paint(eye * pupil, iris * 0.2, _EYES)
        brow = inside(
            torch.minimum(
                width + 0.06 - (pose.x - x).abs(),
                0.055 - (pose.y - level + brow_lift + side * brow_slant * (pose.x - x)).abs(),
            ),
            pose.edge,
        )
        canvas.paint(brow, hair * 0.8, _EYES)
    # The nose: a lit bridge and a shadow beneath.
    length, wide = sample.uniform(0.24, 0.36), sample.uniform(0.17, 0.27)
    x, y = 1.35 * pose.turn, level + 0.16 + length
    nose = ellipse(pose.x, pose.y, (x, y - 0.06), (wide, length), pose.edge)
    canvas.paint(nose, (skin * 1.10).clamp(0, 1), _NOSE)
    shadow = ellipse(
        pose.x, pose.y, (x + 0.35 * wide * sample.sign(), y), (wide * 0.6, length), pose.edge
    )
    canvas.paint(0.6 * nose * shadow, skin * 0.74, None)
    for side in (-1.0, 1.0):
        nostril = (x + side * wide * 0.5, y + length * 0.55)
        hole = ellipse(pose.x, pose.y, nostril, (0.05 + zero, 0.035 + zero), pose.edge)
        canvas.paint(hole, skin * 0.35, _NOSE)
    tip = ellipse(pose.x, pose.y, (x, y + length * 0.5), (wide * 1.15, 0.14 + zero), pose.edge)
    canvas.paint(tip * 0.55, skin * 0.85, None)


def _paint_beard(canvas: _Canvas, pose: _Pose, sample: Sampler, hair: Tensor) -> None:
    has = (sample.chance(0.28)).float()
    full = sample.chance(0.5)
    zero = torch.zeros_like(pose.edge)
    face = ellipse(pose.x, pose.y, (zero, 0.06 + zero), (0.98 + zero, pose.height), pose.edge)
    low = inside(pose.y - sample.uniform(0.42, 0.58) - 0.25 * (1 - pose.x.square()), pose.edge)
    lip = ellipse(pose.x, pose.y, (pose.turn, 0.58 + zero), (0.36 + zero, 0.11 + zero), pose.edge)
    coverage = torch.where(full, torch.maximum(face * low, lip), lip) * has
    canvas.paint(coverage, _strands(hair * 0.9, pose, sample), _HAIR)


def _paint_mouth(canvas: _Canvas, pose: _Pose, sample: Sampler, skin: Tensor) -> None:
    level, width = sample.uniform(0.68, 0.80), sample.uniform(0.28, 0.46)
    smile, thick = sample.uniform(-0.10, 0.30), sample.uniform(0.13, 0.20)
    x = 1.1 * pose.turn
    bent = pose.y + smile * ((pose.x - x) / width).square() * 0.5
    lips = ellipse(pose.x, bent, (x, level), (width, thick), pose.edge)
    red = torch.lerp(
        skin, skin.new_tensor([0.78, 0.22, 0.25])[:, None, None], sample.uniform(0.3, 0.9)[:, None]
    )
    canvas.paint(lips, red, _MOUTH)
    gap = ellipse(
        pose.x, bent, (x, level), (width * 0.75, thick * sample.uniform(0.1, 0.65)), pose.edge
    )
    inner = torch.where(sample.chance(0.5)[:, None], 0.95 + 0 * skin, 0.25 * red)
    canvas.paint(gap, inner, _MOUTH)


def _paint_front_hair(
    canvas: _Canvas, pose: _Pose, sample: Sampler, hair: Tensor, styles: Tensor
) -> None:
    zero = torch.zeros_like(pose.edge)
    lift = sample.uniform(0.06, 0.22)
    cap = ellipse(
        pose.x, pose.y, (zero, -0.06 - lift / 2), (1.05 + lift / 2, pose.height + lift), pose.edge
    )
    # The hairline: an arch, or a parting that falls to one side.
    arch = sample.uniform(-0.78, -0.48) + sample.uniform(0.2, 0.9) * pose.x.square()
    parting = -0.85 + 0.55 * (pose.x * sample.sign() - sample.uniform(-0.6, 0.2)).abs()
    line = torch.where(sample.chance(0.35), parting, arch) + sample.clouds(SIDE, 14) * 0.05
    coverage = cap * inside(line - pose.y, pose.edge)
    coverage = torch.where(styles == 0, torch.zeros_like(coverage), coverage)
    canvas.paint(coverage, _strands(hair, pose, sample), _HAIR)


def _paint_glasses_and_hat(canvas: _Canvas, pose: _Pose, sample: Sampler) -> None:
    zero = torch.zeros_like(pose.edge)
    has = sample.chance(0.35).float()
    frame = sample.color(0.02, 0.5)
    radii = (sample.uniform(0.27, 0.36), sample.uniform(0.20, 0.30))
    width = sample.uniform(0.025, 0.05)
    for side in (-1.0, 1.0):
        center = (side * 0.42 + pose.turn, -0.10 + zero)
        canvas.paint(has * ring(pose.x, pose.y, center, radii, width, pose.edge), frame, None)
    bridge = box(pose.x, pose.y, (pose.turn, -0.14 + zero), (0.12 + zero, width), pose.edge)
    canvas.paint(has * bridge, frame, None)
    wears = sample.chance(0.22).float()
    color = sample.color(0.05, 0.95)
    brim = sample.uniform(-0.75, -0.55)
    crown = ellipse(
        pose.x, pose.y, (zero, brim - 0.05), (1.18 + zero, sample.uniform(0.7, 1.1)), pose.edge
    ) * inside(brim - pose.y, pose.edge)
    band = box(pose.x, pose.y, (zero, brim), (sample.uniform(1.15, 1.7), 0.10 + zero), pose.edge)
    canvas.paint(wears * torch.maximum(crown, band), color, _CLOTHES)


def _light(images: Tensor, sample: Sampler) -> Tensor:
    """Light from one side, its colour, contrast, a little blur and noise."""
    places = torch.linspace(-1, 1, SIDE)
    angle = sample.uniform(0.0, 6.28)
    along = places[None, None, :] * angle.cos() + places[None, :, None] * angle.sin()
    images = images * (1 + sample.uniform(0.0, 0.35) * along)[:, None]
    images = images * sample.uniform(0.75, 1.15)[:, None] * sample.tint(0.08)
    blurred = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.lerp(images, blurred, sample.uniform(0.0, 0.7)[:, None])
    return (images + sample.noise(images.shape) * sample.uniform(0.005, 0.05)[:, None]).clamp(0, 1)


def part_shares(parts: Tensor, cells: int) -> Tensor:
    """How much of each cell every part covers.

    Parameters
    ----------
    parts : ByteTensor of shape (n, side, side)
        The part of each pixel.
    cells : int
        Cells across and down the image.

    Returns
    -------
    tensor of shape (n, cells, cells, 7)
        Shares that sum to 1.
    """
    size = parts.shape[-1] // cells
    covered = functional.one_hot(parts.long(), len(PARTS)).permute(0, 3, 1, 2).float()
    return functional.avg_pool2d(covered, size).permute(0, 2, 3, 1)
