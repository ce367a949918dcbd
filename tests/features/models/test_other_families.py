"""Diffusion models, text models and modules of one's own, beside direct forward passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import relspace
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError

Saved = Callable[[str], Path]
TEXTS = ["a red house stands", "the bird sings", "under the tree a river falls", "small"]


def inputs_of(model, photos: Path) -> list[np.ndarray]:
    images = [Image.open(path).convert("RGB") for path in sorted(photos.iterdir())]
    return [model.prepare(image)[0] for image in images]


class TestDiffusion:
    def test_layers_are_those_of_the_parts_run_by_hand(self, saved: Saved, photos: Path) -> None:
        model = relspace.load_model(saved("diffusion"), device="cpu", timestep=100, random_state=3)
        assert model.layers == (
            *("vae_0", "vae_1", "vae_2", "latent", "down_0", "down_1", "mid", "up_0", "up_1"),
        )
        inputs = inputs_of(model, photos)[:2]
        features = model.forward(inputs, model.layers)
        vae, unet = model.module["vae"], model.module["unet"]
        with torch.no_grad():
            latent = vae.encode(torch.from_numpy(np.stack(inputs))).latent_dist.mode()
            latent = latent * vae.config.scaling_factor
            noise = torch.randn(latent.shape[1:], generator=torch.Generator().manual_seed(3))
            betas = torch.linspace(0.0001**0.5, 0.02**0.5, 1000) ** 2
            kept = (1 - betas).cumprod(0)[100]
            noisy = kept.sqrt() * latent + (1 - kept).sqrt() * noise
            with relspace.record(unet, ["down_blocks.*", "mid_block", "up_blocks.*"]) as direct:
                unet(noisy, 100, torch.zeros(2, 77, 32))
        torch.testing.assert_close(features["latent"], latent.permute(0, 2, 3, 1))
        pairs = {"down_1": "down_blocks.1", "mid": "mid_block", "up_0": "up_blocks.0"}
        for name, path in (pairs | {"up_1": "up_blocks.1"}).items():
            expected = direct[path].permute(0, 2, 3, 1)
            torch.testing.assert_close(features[name], expected, rtol=1e-4, atol=1e-5)

    def test_nothing_after_the_last_layer_is_run(self, saved: Saved, photos: Path) -> None:
        model = relspace.load_model(saved("diffusion"), device="cpu")
        inputs = inputs_of(model, photos)[:1]
        unet = model.module["unet"]
        with relspace.record(unet, ["up_blocks.0", "up_blocks.1", "conv_in"]) as ran:
            model.forward(inputs, ["up_0"])
            assert list(ran) == ["conv_in", "up_blocks.0"]
            ran.clear()
            model.forward(inputs, ["latent", "vae_1"])
            assert list(ran) == []
        hooks = sum(len(one._forward_hooks) for one in model.module.modules())
        assert hooks == 0

    def test_a_prompt_changes_what_the_unet_sees(self, saved: Saved, photos: Path) -> None:
        plain = relspace.load_model(saved("diffusion"), device="cpu")
        told = relspace.load_model(saved("diffusion"), device="cpu", prompt="a bed")
        inputs = inputs_of(plain, photos)[:1]
        before, after = (one.forward(inputs, ["latent", "down_0"]) for one in (plain, told))
        assert torch.equal(before["latent"], after["latent"])
        assert not torch.allclose(before["down_0"], after["down_0"])

    def test_features_of_an_image_do_not_depend_on_its_batch(
        self, saved: Saved, photos: Path
    ) -> None:
        model = relspace.load_model(saved("diffusion"), device="cpu")
        inputs = inputs_of(model, photos)
        together = model.forward(inputs, ["up_1"])["up_1"][2]
        alone = model.forward(inputs[2:3], ["up_1"])["up_1"][0]
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)

    def test_steps_that_do_not_exist_are_refused(self, saved: Saved) -> None:
        with pytest.raises(InvalidInputError, match="steps 0 to 999"):
            relspace.load_model(saved("diffusion"), timestep=1000)
        with pytest.raises(UnknownNameError, match="has no layer 'up_7'"):
            relspace.load_model(saved("diffusion")).names_of(["up_7"])


class TestText:
    @pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5"])
    @pytest.mark.parametrize("pooling", ["mean", "last", "first"])
    def test_vectors_are_pooled_hidden_states(self, saved: Saved, kind: str, pooling: str) -> None:
        model = relspace.load_model(saved(kind), device="cpu", pooling=pooling)
        inputs = [model.prepare(text)[0] for text in TEXTS]
        features = model.forward(inputs, model.layers)
        assert len(model.layers) == 4
        for row, tokens in enumerate(inputs):
            # One text at a time, so that nothing is padded.
            with torch.no_grad():
                states = model.module(
                    torch.from_numpy(tokens)[None], output_hidden_states=True
                ).hidden_states
            # All but BERT give their last state after the final norm.
            kept = states if kind == "bert" else states[:-1]
            for name, state in zip(model.layers, kept, strict=False):
                expected = {"mean": state[0].mean(0), "last": state[0, -1], "first": state[0, 0]}
                torch.testing.assert_close(
                    features[name][row], expected[pooling], rtol=1e-4, atol=1e-5
                )

    @pytest.mark.parametrize(
        ("kind", "projection"),
        [
            ("bert", "encoder.layer.1.attention.self.key"),
            ("llama", "layers.1.self_attn.k_proj"),
            ("t5", "block.1.layer.0.SelfAttention.k"),
        ],
    )
    def test_keys_are_what_the_projections_give(
        self, saved: Saved, kind: str, projection: str
    ) -> None:
        model = relspace.load_model(saved(kind), device="cpu")
        assert model.names_of(["*.key"]) == ("layer_1.key", "layer_2.key", "layer_3.key")
        tokens = model.prepare(TEXTS[0])[0]
        name = next(one for one, _ in model.module.named_modules() if one.endswith(projection))
        with relspace.record(model.module, name) as recorded, torch.no_grad():
            model.module(input_ids=torch.from_numpy(tokens)[None])
        features = model.forward([tokens], ["layer_2.key"])
        torch.testing.assert_close(features["layer_2.key"][0], recorded[name][0].mean(dim=0))

    def test_parts_that_are_not_there_are_named(self, saved: Saved) -> None:
        model = relspace.load_model(saved("gpt2"), device="cpu")
        assert model.forward([model.prepare("a bird")[0]], ["layer_2.mlp"])["layer_2.mlp"].ndim == 2
        with pytest.raises(UnknownNameError, match="keeps no 'key' of its own in layer_1"):
            model.names_of(["layer_1.key"])
        with pytest.raises(UnknownNameError, match=r"shows no 'keys'.* query, key, value"):
            model.names_of(["layer_1.keys"])
        with pytest.raises(UnknownNameError, match=r"as in 'layer_3\.key'"):
            model.names_of(["layer_9"])

    def test_long_texts_are_cut(self, saved: Saved) -> None:
        model = relspace.load_model(saved("bert"), device="cpu")
        tokens, view = model.prepare("the " * 100)
        assert (len(tokens), view) == (16, None)

    def test_texts_are_checked(self, saved: Saved, tmp_path: Path) -> None:
        model = relspace.load_model(saved("bert"), device="cpu")
        with pytest.raises(InvalidInputError, match="must not be empty"):
            model.prepare("  ")
        with pytest.raises(InvalidTypeError, match="list of strings"):
            relspace.extract(model, [1, 2], tmp_path / "a.zarr")
        with pytest.raises(FileNotFoundError, match="no text file"):
            relspace.extract(model, "missing.txt", tmp_path / "a.zarr")

    def test_a_text_file_holds_one_in_each_line(self, saved: Saved, tmp_path: Path) -> None:
        path = tmp_path / "texts.txt"
        path.write_text("\n".join(TEXTS) + "\n\n")
        fs = relspace.extract(saved("bert"), path, tmp_path / "a.zarr", device="cpu")
        assert (fs.ids, fs.grid, fs["layer_3"].shape) == (None, None, (4, 32))
        assert fs.lines == (1, 2, 3, 4)

    def test_the_text_tower_of_clip(self, saved: Saved, tmp_path: Path) -> None:
        from tests.generators.tiny_models import _save_tokenizer

        folder = saved("clip")
        _save_tokenizer(folder)
        model = relspace.load_model(folder, device="cpu", modality="text")
        assert (model.modality, model.settings()["architecture"]) == ("text", "CLIPTextModel")
        assert relspace.load_model(folder, device="cpu").modality == "image"


class TestModule:
    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 2, stride=2)
        )

    def test_any_module_by_the_names_of_its_layers(self, photos: Path, tmp_path: Path) -> None:
        network = self.network()
        preprocessing = relspace.Preprocessing(size=(32, 32))
        model = relspace.ModuleModel(
            network, ["0", "2"], layout="bchw", preprocessing=preprocessing, device="cpu"
        )
        fs = relspace.extract(model, photos, tmp_path / "own.zarr", store_dtype="float32")
        inputs = torch.from_numpy(np.stack(inputs_of(model, photos)))
        with torch.no_grad():
            first = network[0](inputs)
            last = network[2](first.relu())
        torch.testing.assert_close(fs["0"].maps(), first.permute(0, 2, 3, 1))
        torch.testing.assert_close(fs["2"].maps(), last.permute(0, 2, 3, 1))
        assert fs["2"].grid.rows == 4

    def test_tokens_need_their_grid(self) -> None:
        options = {"layout": "btd", "preprocessing": relspace.Preprocessing()}
        with pytest.raises(InvalidInputError, match="n_prefix_tokens to say"):
            relspace.ModuleModel(self.network(), "0", **options)
        model = relspace.ModuleModel(
            nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.Flatten(2), nn.Linear(16, 17)),
            "2",
            layout="bhwc",
            preprocessing=relspace.Preprocessing(size=(32, 32)),
            device="cpu",
        )
        with pytest.raises(InvalidInputError, match=r"gives shape \(1, 8, 17\)"):
            model.describe(["2"])

    def test_tokens_with_a_class_token(self) -> None:
        class Tokens(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.patch = nn.Conv2d(3, 8, 8, stride=8)
                self.block = nn.Linear(8, 8)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = self.patch(x).flatten(2).transpose(1, 2)
                return self.block(torch.cat([x.mean(1, keepdim=True), x], dim=1))

        model = relspace.ModuleModel(
            Tokens(),
            "block",
            layout="btd",
            preprocessing=relspace.Preprocessing(size=(32, 16)),
            n_prefix_tokens=1,
            grid_shape=(4, 2),
            device="cpu",
        )
        shapes = {layer.name: layer.shape for layer in model.describe(["block"]).layers}
        assert shapes == {"block": (4, 2, 8), "block.class": (8,)}

    def test_a_bare_module_is_told_what_to_do(self, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match=r"relspace\.ModuleModel"):
            relspace.extract(self.network(), photos, tmp_path / "a.zarr")
