"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929; Ti from Touvron et al. 2021, arXiv:2012.12877)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.architecture import Architecture, BuildOptions, Published
from edgekit.models.layers import SMALL_IMAGE, SelfAttention, initialize

PATCH = 16
HEAD_CHANNELS = 64
"""Channels of a head, in every size of the paper: a wider network has more heads."""
EXPANSION = 4
"""Channels of the hidden layer by those of a token."""
EPSILON = 1e-6
"""Of the layer normalizations, as in the paper's own code and in torchvision."""
INITIAL_STD = 0.02


class Sizes(NamedTuple):
    """One row of the papers' table 1."""

    heads: int
    depth: int


SIZES = {"vit_ti_16": Sizes(3, 12), "vit_b_16": Sizes(12, 12)}


def patch_size(input_size: int) -> int:
    """Side of a patch: 16 pixels, on small pictures fewer, so that 49 tokens and more are left to attend to each other.

    >>> [(patch_size(size), (size // patch_size(size)) ** 2) for size in (28, 32, 64, 96, 224)]
    [(4, 49), (4, 64), (8, 64), (16, 36), (16, 196)]
    """
    if input_size > SMALL_IMAGE:
        return PATCH
    return PATCH // 4 if input_size <= SMALL_IMAGE // 2 else PATCH // 2


class Embedding(nn.Module):
    """Patches become tokens, a class token comes first, and each is told its place (section 3.1, eq. 1).

    The class token is added where zeros were put in front, together with its position: one padding and one addition
    for any batch. What does not fill a patch, at the right and at the bottom, is not looked at.

    Args:
        options: Sizes.
        channels: Of a token.
    """

    def __init__(self, options: BuildOptions, channels: int) -> None:
        super().__init__()
        patch = patch_size(options.input_size)
        num_patches = (options.input_size // patch) ** 2
        self.patches = nn.Conv2d(options.in_channels, channels, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, channels))
        self.positions = nn.Parameter(torch.empty(1, 1 + num_patches, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, 1 + patches, channels]."""
        tokens = functional.pad(self.patches(x).flatten(2).transpose(1, 2), (0, 0, 1, 0))
        first = self.class_token + self.positions[:, :1]
        return tokens + torch.cat([first, self.positions[:, 1:]], 1)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each on the normalized tokens and added to them (eq. 2 and 3).

    Args:
        channels: Of a token.
        num_heads: Of the attention.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels, eps=EPSILON)
        self.attention = nn.Sequential(
            nn.Linear(channels, 3 * channels), SelfAttention(num_heads), nn.Linear(channels, channels)
        )
        self.perceptron_norm = nn.LayerNorm(channels, eps=EPSILON)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, EXPANSION * channels), nn.GELU(), nn.Linear(EXPANSION * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, channels] -> the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.perceptron(self.perceptron_norm(x))


class VisionTransformer(nn.Module):
    """Tokens, blocks, and a linear layer on the normalized class token (eq. 4).

    The width multiplies the heads, 64 channels each: Ti has 3, S would have 6, B has 12. Small pictures have smaller
    patches (`patch_size`).
    """

    def __init__(self, options: BuildOptions) -> None:
        super().__init__()
        width = 1.0 if options.width is None else options.width
        sizes = SIZES[options.variant]
        num_heads = max(1, round(sizes.heads * width))
        channels = num_heads * HEAD_CHANNELS
        depth = sizes.depth if options.depth is None else options.depth
        self.embedding = Embedding(options, channels)
        self.blocks = nn.Sequential(*(Block(channels, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(channels, options.num_classes)
        initialize(self)
        for part in (self.embedding.class_token, self.embedding.positions):
            nn.init.normal_(part, std=INITIAL_STD)
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=INITIAL_STD)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> logits [n, classes]."""
        tokens = self.blocks(self.embedding(x))
        return self.classifier(self.dropout(self.norm(tokens[:, :1].flatten(1))))


ARCHITECTURE = Architecture(
    name="vit",
    title="Vision Transformer",
    paper="Dosovitskiy et al. 2021, An Image is Worth 16x16 Words, arXiv:2010.11929",
    year=2020,
    variants={
        "vit_ti_16": Published(
            num_params=5_717_416,
            macs=1_260_000_000,
            source="timm (deit_tiny_patch16_224: parameters, MACs); Touvron et al. 2021, table 5 (top-1), timm (top-5)",
            top1=72.2,
            top5=91.1,
        ),
        "vit_b_16": Published(
            num_params=86_567_656,
            macs=17_560_000_000,
            source="torchvision (ViT_B_16_Weights.IMAGENET1K_V1)",
            top1=81.1,
            top5=95.3,
        ),
    },
    build=VisionTransformer,
    takes_width=True,
    takes_depth=True,
    max_input_size=512,
)
