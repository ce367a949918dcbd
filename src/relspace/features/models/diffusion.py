"""Stable Diffusion: features of the VAE and the UNet at one step of the noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from relspace._core.arguments import check_count, check_random_state
from relspace.errors import InvalidInputError
from relspace.features.evaluation import forward_pass, mixed_precision
from relspace.features.feature_model import Features, ImageModel, Inputs
from relspace.features.hooks import record
from relspace.features.models.foreign import import_package
from relspace.features.models.processors import needed_size
from relspace.features.preprocessing import Preprocessing

#: The step at which DIFT (Tang et al. 2023) finds correspondences.
DEFAULT_TIMESTEP = 261
LATENT = "latent"


class _Enough(Exception):  # noqa: N818 (no error: it ends a forward pass that has gone far enough)
    """The last block that is wanted has run."""


class DiffusionModel(ImageModel):
    """Stable Diffusion, read as in DIFT (Tang et al. 2023, Emergent correspondence).

    An image is encoded by the VAE, noise of one step is added, and the UNet takes it with the
    embedding of a prompt, or zeros. The noise is the same for every image. Layers are called
    ``vae_0`` ... (blocks of the VAE's encoder), ``latent``, ``down_0`` ..., ``mid`` and ``up_0``
    ... (blocks of the UNet). Nothing after the last layer asked for is computed.

    Parameters
    ----------
    folder : Path
        A pipeline as diffusers saves it.
    preprocessing : Preprocessing, optional
        By default images are stretched to the size that the UNet was trained on.
    image_size : int or (int, int), optional
        Another size.
    timestep : int
        Timestep of the noise.
    prompt : str, optional
        The prompt of the UNet; by default its embedding is zeros.
    random_state : int
        Seed of the noise.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        preprocessing: Preprocessing | None = None,
        image_size: int | tuple[int, int] | None = None,
        timestep: int = DEFAULT_TIMESTEP,
        prompt: str | None = None,
        random_state: int = 0,
        use_safetensors: bool | None = True,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        diffusers = import_package("diffusers", "diffusion models")
        self.name = name
        self.device, self.dtype = device, dtype
        load: dict[str, Any] = {"local_files_only": True, "use_safetensors": use_safetensors}
        load["low_cpu_mem_usage"] = False  # needs accelerate, and says so on the screen
        vae = diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae", **load)
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **load)
        if unet.config.addition_embed_type is not None:
            raise InvalidInputError(
                f"{name} conditions its UNet on more than a prompt ("
                f"{unet.config.addition_embed_type!r}, as SDXL does), which is not supported."
            )
        self._scheduler = diffusers.DDPMScheduler.from_pretrained(
            folder, subfolder="scheduler", local_files_only=True
        )
        self._timestep = check_count(timestep, "timestep", at_least=0)
        n_steps = self._scheduler.config.num_train_timesteps
        if self._timestep >= n_steps:
            raise InvalidInputError(f"timestep is {timestep}; {name} has steps 0 to {n_steps - 1}.")
        self._seed = check_random_state(random_state)
        self._prompt = prompt
        self._embedding = self._embed(folder, unet, load).to(device)
        self.module = nn.ModuleDict({"vae": vae, "unet": unet}).to(device)
        self._vae_stride = 2 ** (len(vae.config.block_out_channels) - 1)
        if preprocessing is None:
            size = int(unet.config.sample_size) * self._vae_stride
            half = (0.5, 0.5, 0.5)
            preprocessing = Preprocessing(size=(size, size), mean=half, std=half)
        self.preprocessing = (
            preprocessing if image_size is None else preprocessing.at_size(image_size)
        )
        self._size = needed_size(self.preprocessing, name)
        self._paths = {
            **{f"vae_{i}": f"vae.encoder.down_blocks.{i}" for i in _range(vae.encoder.down_blocks)},
            LATENT: "",
            **{f"down_{i}": f"unet.down_blocks.{i}" for i in _range(unet.down_blocks)},
            "mid": "unet.mid_block",
            **{f"up_{i}": f"unet.up_blocks.{i}" for i in _range(unet.up_blocks)},
        }
        self.layers = tuple(self._paths)

    def part_of(self, name: str) -> nn.Module | None:
        return self.module.get_submodule(self._paths[name]) if self._paths[name] else None

    def settings(self) -> dict[str, Any]:
        return {
            "family": "Stable Diffusion",
            "architecture": "UNet2DConditionModel",
            "timestep": self._timestep,
            "prompt": self._prompt,
            "random_state": self._seed,
            "preprocessing": self.preprocessing.to_dict(),
        }

    def forward(
        self, inputs: Inputs, names: Sequence[str], *, dtype: torch.dtype | None = None
    ) -> Features:
        images = torch.from_numpy(np.stack(inputs))
        vae, unet = self.module["vae"], self.module["unet"]  # type: ignore[index]
        wanted = [self._paths[name] for name in self.layers if name in names and name != LATENT]
        found: Features = {}
        with (
            forward_pass(self.module, self.device),
            self._recorded(wanted) as recorded,
            mixed_precision(self.device, self.dtype),
        ):
            distribution = vae.encode(images.to(self.device)).latent_dist
            latent = distribution.mode() * vae.config.scaling_factor
            found[LATENT] = latent
            if any(path.startswith("unet.") for path in wanted):
                generator = torch.Generator().manual_seed(self._seed)
                noise = torch.randn(latent.shape[1:], generator=generator).to(latent)
                step = torch.tensor([self._timestep], device=self.device)
                noisy = self._scheduler.add_noise(latent, noise.expand_as(latent), step)
                with _until(unet, wanted[-1].removeprefix("unet.")):
                    unet(noisy, step, self._embedding.expand(len(latent), -1, -1))
        found |= {name: recorded[path] for name, path in self._paths.items() if path in recorded}
        return {
            name: found[name].permute(0, 2, 3, 1).to(dtype or found[name].dtype) for name in names
        }

    @contextmanager
    def _recorded(self, paths: Sequence[str]) -> Iterator[Any]:
        if not paths:
            yield {}
            return
        with record(self.module, paths, device=None) as recorded:
            yield recorded

    def _embed(self, folder: Path, unet: Any, load: dict[str, Any]) -> torch.Tensor:
        if self._prompt is None:
            # As many tokens as the text encoder returns, though of zeros any number is the same.
            return torch.zeros(1, 77, unet.config.cross_attention_dim)
        transformers = import_package("transformers")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(
            folder, subfolder="tokenizer", local_files_only=True
        )
        encoder = transformers.CLIPTextModel.from_pretrained(
            folder, subfolder="text_encoder", **load
        ).eval()
        tokens = tokenizer(
            self._prompt,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            embedding: torch.Tensor = encoder(tokens.input_ids)[0]
        return embedding


@contextmanager
def _until(module: nn.Module, path: str) -> Iterator[None]:
    """End a forward pass once a block has run."""

    def stop(*_: object) -> None:
        raise _Enough

    handle = module.get_submodule(path).register_forward_hook(stop)
    try:
        yield
    except _Enough:
        pass
    finally:
        handle.remove()


def _range(blocks: Any) -> range:
    return range(len(blocks))
