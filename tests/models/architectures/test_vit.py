"""The Vision Transformers: torch's own encoder is the judge of ours."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.core.errors import UsageError
from edgekit.export.torch_graph import trace
from edgekit.models.architectures.vit import Block
from edgekit.models.counting import count_macs, count_params, measure
from edgekit.models.zoo import build_model, model_name, parse_model_name, with_sizes
from transformers import small_vit


@pytest.mark.parametrize(
    ("variant", "num_params", "macs"),
    [
        # Tokens times weights, 196 of them through the patches; 2 * 197**2 products per channel and block of attention.
        ("vit_ti_16", 5_717_416, 196 * 192 * 768 + 12 * 197 * 12 * 192**2 + 12 * 2 * 197**2 * 192 + 192_000),
        ("vit_ti_16_w2", 22_050_664, 4_598_882_304),  # DeiT-S, whose paper says 22 M; timm 4.6 G
        ("vit_b_16", 86_567_656, 17_563_828_224),  # torchvision: 17.56 G
    ],
)
def test_sizes_are_those_of_the_papers(variant: str, num_params: int, macs: int) -> None:
    assert measure(parse_model_name(variant)) == (num_params, macs)


@torch.inference_mode()
def test_block_computes_what_torchs_encoder_layer_does() -> None:
    torch.manual_seed(0)
    block = Block(128, 2).eval()
    judge = nn.TransformerEncoderLayer(
        128, 2, 512, activation="gelu", batch_first=True, norm_first=True, layer_norm_eps=1e-6
    ).eval()
    ours = block.state_dict()
    names = {
        "self_attn.in_proj_": "attention.0.",
        "self_attn.out_proj.": "attention.2.",
        "linear1.": "perceptron.0.",
        "linear2.": "perceptron.2.",
        "norm1.": "attention_norm.",
        "norm2.": "perceptron_norm.",
    }
    judge.load_state_dict(
        {f"{theirs}{part}": ours[f"{own}{part}"] for theirs, own in names.items() for part in ("weight", "bias")}
    )
    tokens = 3 * torch.randn(2, 17, 128)

    torch.testing.assert_close(block(tokens), judge(tokens), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_first_token_is_the_class_token_at_its_place_and_the_others_are_patches() -> None:
    module = small_vit()
    embedding = module.get_submodule("embedding")
    x = torch.randn(3, 1, 28, 28)

    tokens = embedding(x)

    positions = embedding.get_parameter("positions")[0]
    assert tokens.shape == (3, 50, 128)
    torch.testing.assert_close(tokens[:, 0], (embedding.get_parameter("class_token")[0] + positions[0]).expand(3, -1))
    patches = module.get_submodule("embedding.patches")
    torch.testing.assert_close(tokens[1, 1 + 7 + 2], patches(x)[1, :, 1, 2] + positions[1 + 7 + 2])


@pytest.mark.parametrize(
    ("size", "num_tokens"),
    [(24, 37), (28, 50), (30, 50), (32, 65), (64, 65), (65, 17), (96, 37), (100, 37), (224, 197)],
)
def test_any_size_becomes_tokens_and_has_the_same_count_everywhere(size: int, num_tokens: int) -> None:
    options = with_sizes(parse_model_name("vit_ti_16_w0.33_d1"), input_size=size, num_classes=3)
    module = build_model(options).eval()

    graph = trace(module, (3, size, size), name="vit")

    assert module.get_parameter("embedding.positions").shape[1] == num_tokens
    assert graph.num_macs == count_macs(module, (3, size, size))
    assert module(torch.randn(1, 3, size, size)).shape == (1, 3)


@pytest.mark.parametrize("name", ["vit_ti_16_d3", "vit_b_16_w0.25_d2", "vit_ti_16_w0.33", "vit_b_16"])
def test_width_and_depth_are_part_of_the_name(name: str) -> None:
    options = parse_model_name(name)
    module = build_model(with_sizes(options, input_size=28, num_classes=3))

    assert model_name(options) == name
    assert len(list(module.get_submodule("blocks").children())) == (options.depth or 12)


def test_depth_makes_a_network_smaller_by_whole_blocks() -> None:
    sizes = [count_params(build_model(parse_model_name(f"vit_ti_16_d{depth}"))) for depth in (1, 2, 4)]

    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mobilenet_v2_d4", "MobileNet V2 has no free depth"),
        ("vit_ti_16_d0", "depth 0 is out of range"),
        ("vit_ti_16_d49", "depth 49 is out of range"),
        ("vit_ti_16_w0", "width 0.0 is out of range"),
    ],
)
def test_sizes_that_make_no_network_are_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_model_name(name)
