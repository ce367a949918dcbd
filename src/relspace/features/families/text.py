"""Text encoders and decoder language models: one vector for each text and layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relspace._validation import check_choice
from relspace.errors import InvalidInputError
from relspace.features.evaluation import forward_pass, unwrapped
from relspace.features.families.blocks import Blocks
from relspace.features.families.vision import mixed_precision
from relspace.features.feature_model import FeatureModel
from relspace.features.hooks import record_named
from relspace.features.store import Box

#: How the tokens of a text become one vector.
POOLINGS = ("mean", "last", "first")

# Where text networks keep what attention and the MLP give: Llama and its kin, CLIP; BERT and its
# kin; DistilBERT; MPNet; T5. GPT-2 projects to all three at once, in one layer.
TEXT_PARTS: Mapping[str, tuple[str, ...]] = {
    name: (
        f"self_attn.{name[0]}_proj",
        f"attention.self.{name}",
        f"attention.{name[0]}_lin",
        f"attention.attn.{name[0]}",
        f"layer.0.SelfAttention.{name[0]}",
    )
    for name in ("query", "key", "value")
} | {
    "attention": ("self_attn", "attn", "layer.0.SelfAttention"),
    "mlp": ("mlp", "ffn", "layer.1.DenseReluDense"),
}


class TextModel(FeatureModel):
    """A text network of transformers, whose tokens are pooled to one vector for each text.

    Layers are called as ``hidden_states`` counts them: ``layer_0`` goes into the first block and
    ``layer_i`` comes out of block i, before any final norm.

    Parameters
    ----------
    name : str
        What it is called.
    module : nn.Module
        The network.
    tokenizer : tokenizer of transformers
        What cuts texts into tokens.
    pooling : {"mean", "last", "first"}
        The mean over the text's tokens (padding left out), its last token, or its first (the class
        token of encoders that have one).
    """

    modality = "text"

    def __init__(
        self,
        name: str,
        module: nn.Module,
        tokenizer: Any,
        *,
        pooling: str = "mean",
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.name = name
        self.module = unwrapped(module)
        self.device, self.dtype = device, dtype
        self.pooling = check_choice(pooling, "pooling", POOLINGS)
        self._tokenizer = tokenizer
        config: Any = self.module.config
        n_blocks = int(getattr(config, "num_hidden_layers", None) or config.num_layers)
        self._blocks = Blocks.of(self.module, n_blocks, TEXT_PARTS, type(self.module).__name__)
        self.layers = self._blocks.layers
        limit = getattr(config, "max_position_embeddings", None)
        longest = int(tokenizer.model_max_length)
        self._max_length = longest if limit is None else min(longest, int(limit))

    def match_name(self, name: str) -> Sequence[str]:
        """Return the layers that a name stands for; ``*.key`` stands for the keys of all."""
        return self._blocks.match(name) or super().match_name(name)

    def name_hint(self) -> str:
        """Say what else may be asked for."""
        return self._blocks.hint()

    def prepare(self, item: str) -> tuple[NDArray[np.int64], None]:
        """Cut a text into tokens, at most as many as the network takes."""
        if not isinstance(item, str) or not item.strip():
            raise InvalidInputError(f"a text is {item!r}; texts must not be empty.")
        tokens = self._tokenizer(item, truncation=True, max_length=self._max_length)["input_ids"]
        if not tokens:
            raise InvalidInputError(f"the tokenizer of {self.name} makes no token of {item!r:.60}.")
        return np.asarray(tokens, dtype=np.int64), None

    @torch.no_grad()
    def forward(
        self,
        inputs: Sequence[NDArray[np.int64]],
        names: Sequence[str],
        *,
        dtype: torch.dtype | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return one vector for each text by layer, shape (b, d)."""
        states, mask = self.token_states(inputs, names)
        pooled = {name: self._pool(one, mask) for name, one in states.items()}
        return {name: one.to(dtype or one.dtype) for name, one in pooled.items()}

    def token_states(
        self, inputs: Sequence[NDArray[np.int64]], names: Sequence[str]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the tokens of a batch by layer, (b, t, d), and which are no padding, (b, t)."""
        lengths = torch.tensor([len(one) for one in inputs])
        tokens = torch.zeros(len(inputs), int(lengths.max()), dtype=torch.long)
        # Padding goes to the right, behind what a causal network looks at.
        mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        for row, one in zip(tokens, inputs, strict=True):
            row[: len(one)] = torch.from_numpy(one)
        mask = mask.to(self.device)
        where = {name: self._blocks.hook(name) for name in names}
        with (
            forward_pass(self.module, self.device),
            record_named(self.module, where) as recorded,
        ):
            with mixed_precision(self.device, self.dtype):
                self.module(input_ids=tokens.to(self.device), attention_mask=mask.long())
            return {name: recorded(name) for name in names}, mask

    def spans(self, item: str) -> list[tuple[int, int]]:
        """Return where in a text each of its tokens begins and ends; special ones are empty."""
        if not getattr(self._tokenizer, "is_fast", False):
            raise InvalidInputError(
                f"the tokenizer of {self.name} doesn't say where its tokens are in a text."
            )
        cut = self._tokenizer(
            item, truncation=True, max_length=self._max_length, return_offsets_mapping=True
        )
        return [(int(start), int(stop)) for start, stop in cut["offset_mapping"]]

    def regions(
        self, features: Mapping[str, torch.Tensor], input_shape: tuple[int, ...]
    ) -> dict[str, Box]:
        """Return nothing: a text has no grid."""
        return {}

    def blank(self) -> NDArray[np.int64]:
        """Return a text of one letter."""
        return self.prepare("a")[0]

    def settings(self) -> dict[str, Any]:
        """Return the class, the pooling and the longest text."""
        return {
            "family": "text",
            "architecture": type(self.module).__name__,
            "pooling": self.pooling,
            "max_tokens": self._max_length,
        }

    def _pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "first":
            return tokens[:, 0]
        if self.pooling == "last":
            return tokens[torch.arange(len(tokens)), mask.sum(dim=1) - 1]
        weights = mask[..., None].to(torch.float32)
        return (tokens.float() * weights).sum(dim=1) / weights.sum(dim=1)
