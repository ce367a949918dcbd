"""Tiny networks of every family, random but seeded, saved to disk as the real ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HALF = [0.5, 0.5, 0.5]
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP_COLORS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
STEPS = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
TRANSFORMER = {**SMALL, "image_size": 32, "patch_size": 8}


def _transformers() -> Any:
    import transformers

    return transformers


def _vit() -> Any:
    t = _transformers()
    return t.ViTModel(t.ViTConfig(**TRANSFORMER), add_pooling_layer=False)


def _mae() -> Any:
    t = _transformers()
    sizes = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
    heads = {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}
    # Published checkpoints hold the decoder too, and mask three quarters.
    return t.ViTMAEForPreTraining(t.ViTMAEConfig(**TRANSFORMER, **sizes, **heads, mask_ratio=0.75))


def _dinov2() -> Any:
    t = _transformers()
    return t.Dinov2Model(t.Dinov2Config(**TRANSFORMER))


def _dinov2_registers() -> Any:
    t = _transformers()
    return t.Dinov2WithRegistersModel(
        t.Dinov2WithRegistersConfig(**TRANSFORMER, num_register_tokens=4)
    )


def _dinov3() -> Any:
    t = _transformers()
    return t.DINOv3ViTModel(t.DINOv3ViTConfig(**TRANSFORMER, num_register_tokens=4))


def _clip() -> Any:
    t = _transformers()
    text = {**SMALL, "vocab_size": 64, "max_position_embeddings": 16}
    return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=TRANSFORMER))


def _siglip() -> Any:
    t = _transformers()
    text = {**SMALL, "vocab_size": 64, "max_position_embeddings": 16}
    return t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=TRANSFORMER))


def _sam() -> Any:
    t = _transformers()
    vision = {
        **SMALL,
        "image_size": 64,
        "patch_size": 8,
        "output_channels": 16,
        "global_attn_indexes": [2],
        "window_size": 3,
        "initializer_range": 0.02,  # its default of 1e-10 would make every feature the same
        "mlp_dim": 64,
    }
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    decoder |= {"iou_head_hidden_dim": 16}
    return t.SamModel(
        t.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    )


def _sam2_sizes() -> dict[str, Any]:
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 16,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 2, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": [4],
        "image_size": [128, 128],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 16,
    }
    prompt = {"hidden_size": 16, "image_size": 128, "patch_size": 16}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    decoder |= {"iou_head_hidden_dim": 16}
    return {
        "vision_config": vision,
        "prompt_encoder_config": prompt,
        "mask_decoder_config": decoder,
    }


def _sam2() -> Any:
    t = _transformers()
    return t.Sam2Model(t.Sam2Config(**_sam2_sizes()))


def _sam2_video() -> Any:
    # What published checkpoints of SAM 2 are.
    t = _transformers()
    memory = {
        "memory_attention_hidden_size": 16,
        "memory_attention_num_layers": 1,
        "memory_attention_num_attention_heads": 1,
        "memory_attention_feed_forward_hidden_size": 16,
        "memory_encoder_hidden_size": 16,
        "memory_encoder_output_channels": 8,
        "mask_downsampler_embed_dim": 16,
        "memory_fuser_embed_dim": 16,
        "memory_fuser_intermediate_dim": 16,
        "memory_fuser_num_layers": 1,
    }
    return t.Sam2VideoModel(t.Sam2VideoConfig(**_sam2_sizes(), **memory))


def _resnet() -> Any:
    t = _transformers()
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 2, 1]}
    return t.ResNetModel(t.ResNetConfig(**sizes, layer_type="basic"))


def _convnext() -> Any:
    t = _transformers()
    sizes = {"hidden_sizes": [16, 32, 64], "depths": [1, 2, 1], "num_stages": 3}
    return t.ConvNextModel(t.ConvNextConfig(**sizes))


def _convnext_v2() -> Any:
    t = _transformers()
    sizes = {"hidden_sizes": [16, 32, 64], "depths": [1, 2, 1], "num_stages": 3}
    return t.ConvNextV2Model(t.ConvNextV2Config(**sizes))


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


#: How each network is built, and what is saved as preprocessor_config.json beside it: the entries
#: of published checkpoints, with sizes scaled down.
VISION: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "vit": (
        _vit,
        {"image_processor_type": "ViTImageProcessor", "size": _square(32), "resample": 2,
         "image_mean": HALF, "image_std": HALF},
    ),
    "dino": (
        _vit,
        {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 3, **IMAGENET},
    ),
    "mae": (
        _mae,
        {"image_processor_type": "ViTImageProcessor", "size": _square(32), "resample": 3,
         **IMAGENET},
    ),
    "dinov2": (
        _dinov2,
        {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40},
         "do_center_crop": True, "crop_size": _square(35), "resample": 3, "do_convert_rgb": True,
         **IMAGENET},
    ),
    "dinov2_registers": (
        _dinov2_registers,
        {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 36},
         "do_center_crop": True, "crop_size": _square(32), "resample": 3, **IMAGENET},
    ),
    "dinov3": (
        _dinov3,
        {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": _square(32), "resample": 2,
         **IMAGENET},
    ),
    "clip": (
        _clip,
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32},
         "do_center_crop": True, "crop_size": _square(32), "resample": 3, "do_convert_rgb": True,
         **CLIP_COLORS},
    ),
    "siglip": (
        _siglip,
        {"image_processor_type": "SiglipImageProcessor", "size": _square(32), "resample": 3,
         "image_mean": HALF, "image_std": HALF},
    ),
    "sam": (
        _sam,
        {"image_processor_type": "SamImageProcessor", "size": {"longest_edge": 64}, "do_pad": True,
         "pad_size": _square(64), "mask_size": {"longest_edge": 16}, "mask_pad_size": _square(16),
         "resample": 2, "do_convert_rgb": True, **IMAGENET},
    ),
    "sam2_video": (
        _sam2_video,
        {"image_processor_type": "Sam2ImageProcessorFast", "size": _square(128), "resample": 2,
         **IMAGENET},
    ),
    "sam2": (
        _sam2,
        {"image_processor_type": "Sam2ImageProcessorFast", "size": _square(128), "resample": 2,
         **IMAGENET},
    ),
    "resnet": (
        _resnet,
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64},
         "crop_pct": 0.875, "resample": 3, **IMAGENET},
    ),
    "convnext": (
        _convnext,
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64},
         "crop_pct": 0.875, "resample": 3, **IMAGENET},
    ),
    "convnext_v2": (
        _convnext_v2,
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64},
         "crop_pct": 0.875, "resample": 3, **IMAGENET},
    ),
}  # fmt: skip


def save_vision_model(family: str, folder: Path) -> Path:
    """Build a family's network and save it with its processor's configuration."""
    build, processor = VISION[family]
    torch.manual_seed(0)
    build().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(STEPS | processor))
    return folder


WORDS = (
    *("a", "the", "red", "blue", "small", "large", "house", "bird", "tree", "river"),
    *("sings", "falls", "stands", "runs", "over", "under"),
)


def _save_tokenizer(folder: Path, **special: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = ["<pad>", "<unk>", "<s>", "</s>", *WORDS]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    _transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=16,
        **special,
    ).save_pretrained(folder)


def save_text_model(kind: str, folder: Path) -> Path:
    """Build a text encoder or a decoder language model and save it with its tokenizer."""
    t = _transformers()
    torch.manual_seed(0)
    sizes = {**SMALL, "vocab_size": 32, "max_position_embeddings": 16}
    model = {
        "bert": lambda: t.BertModel(t.BertConfig(**sizes)),
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(vocab_size=32, n_positions=16, n_embd=32, n_layer=3, n_head=4)
        ),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(
                vocab_size=32,
                d_model=32,
                d_kv=8,
                d_ff=64,
                num_layers=3,
                num_heads=4,
                decoder_start_token_id=0,
            )
        ),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**sizes, num_key_value_heads=2)),
    }[kind]()
    model.save_pretrained(folder)
    _save_tokenizer(folder)
    return folder


def save_diffusion_model(folder: Path) -> Path:
    """Build a small Stable Diffusion and save it as its pipeline is saved."""
    import diffusers

    t = _transformers()
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 64),
        latent_channels=4,
    )
    text = t.CLIPTextModel(
        t.CLIPTextConfig(**SMALL, vocab_size=32, max_position_embeddings=16, eos_token_id=3)
    )
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    diffusers.DDPMScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    _save_clip_tokenizer(folder / "tokenizer")
    index = {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _save_clip_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    letters = [*"abcdefghijkl"]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = [*words, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 16})
    )
