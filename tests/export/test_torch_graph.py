from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.export.torch_graph import trace
from edgekit.models.layers import ChannelShuffle
from edgekit.models.zoo import BuildOptions, build_model, parse_model_name, variant_names
from onnx_files import ShuffleUnit, SmallNet, SqueezeExcite, pictures, run_graph, run_torch, settle

SHAPE = (3, 15, 17)


class Head(nn.Module):
    """Makes a classifier of any feature extractor."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.adaptive_avg_pool2d(self.body(x), 1).flatten(1)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)  # type: ignore[operator]


LAYERS = {
    "conv_same_padding": nn.Conv2d(3, 4, (3, 4), padding="same"),
    "conv_valid_padding": nn.Conv2d(3, 4, 3, padding="valid", stride=2),
    "conv_dilated_grouped": nn.Conv2d(3, 6, 3, dilation=2, groups=3, padding=(2, 1)),
    "batch_norm_without_affine": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
    "batch_norm_first": nn.BatchNorm2d(3),
    "max_pool_ceil": nn.MaxPool2d(2, 2, ceil_mode=True),
    "max_pool_padded": nn.MaxPool2d(3, 2, 1),
    "avg_pool_ceil": nn.AvgPool2d(2, 2, ceil_mode=True),
    "avg_pool_padded": nn.AvgPool2d(3, 2, 1),
    "avg_pool_padding_not_counted": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "adaptive_pool_to_several": nn.AdaptiveAvgPool2d((5, 1)),
    "activations": nn.Sequential(nn.Hardswish(), nn.Hardsigmoid(), nn.SiLU(), nn.Sigmoid(), nn.Hardtanh(-0.5, 0.7)),
    "zero_pad_then_conv": nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, 4, 3)),
    "constant_pad": nn.ConstantPad2d((1, 0, 0, 2), 0.5),
    "shuffle_module": nn.Sequential(nn.Conv2d(3, 12, 1), ChannelShuffle(3)),
    "shuffle_of_torch": nn.Sequential(nn.Conv2d(3, 12, 1), nn.ChannelShuffle(4)),
    "functional": Call(
        lambda x: (
            functional.hardswish(functional.relu6(functional.avg_pool2d(functional.max_pool2d(x, 3, 2, 1), 2))) * 2 - 1
        )
    ),
    "slices": Call(lambda x: torch.cat([x[:, 1:], x[:, :1, 2:-1, 1:].mean((2, 3), keepdim=True) + x], dim=1)),
    "split": Call(lambda x: x.split([1, 2], 1)[0] + x.split(2, 1)[1] * torch.chunk(x, 3, 1)[1]),
    "arithmetic": Call(lambda x: (x / 4 + 3).clamp(0, 6) * x / 6),
    "squeeze_excite": nn.Sequential(nn.Conv2d(3, 8, 1), SqueezeExcite(8)),
    "shuffle_unit": nn.Sequential(nn.Conv2d(3, 8, 1), ShuffleUnit(8)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", LAYERS)
def test_trace_computes_what_torch_computes(name: str) -> None:
    torch.manual_seed(0)
    module = settle(Head(copy.deepcopy(LAYERS[name])))
    x = pictures((2, *SHAPE))

    graph = trace(module, SHAPE, name=name)

    np.testing.assert_allclose(run_graph(graph, x), run_torch(module, x), atol=1e-5)


def test_trace_computes_what_torch_computes_for_a_whole_net() -> None:
    torch.manual_seed(1)
    module = settle(SmallNet())
    x = pictures((3, 3, 32, 32))

    graph = trace(module, (3, 32, 32), name="small")

    np.testing.assert_allclose(run_graph(graph, x), run_torch(module, x), atol=1e-5)
    assert {"BatchNormalization", "Reshape", "Transpose"}.isdisjoint(node.op for node in graph.nodes)


def test_trace_names_nodes_activations_and_constants_by_module_path() -> None:
    graph = trace(SmallNet(), (3, 32, 32), name="small")

    by_name = {node.name: node for node in graph.nodes}
    assert by_name["stem.0"].inputs == ("input", "stem.0.weight", "stem.0.bias")
    assert by_name["stem.0"].outputs == ("stem.0",)
    assert by_name["unit.split"].outputs == ("unit.split.0", "unit.split.1")
    assert by_name["excite.mul"].op == "Mul"
    assert by_name["classifier"].inputs[1:] == ("classifier.weight", "classifier.bias")
    assert graph.output == "classifier"


def test_trace_folds_batch_norm_in_double_precision() -> None:
    module = settle(Head(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    tensors = {name: tensor.double() for name, tensor in module.state_dict().items()}
    scale = tensors["body.1.weight"] / torch.sqrt(tensors["body.1.running_var"] + 1e-5)
    bias = (tensors["body.0.bias"] - tensors["body.1.running_mean"]) * scale + tensors["body.1.bias"]

    graph = trace(module, SHAPE, name="net")

    expected = (tensors["body.0.weight"] * scale.reshape(-1, 1, 1, 1)).float()
    np.testing.assert_array_equal(graph.constants["body.0.weight"], expected.numpy())
    np.testing.assert_array_equal(graph.constants["body.0.bias"], bias.float().numpy())


def test_trace_leaves_the_module_as_it_was() -> None:
    module = SmallNet().train()
    module.stem[1].eval()
    before = copy.deepcopy(module.state_dict())

    trace(module, (3, 32, 32), name="small")

    assert module.training
    assert not module.stem[1].training
    assert module.dropout.training
    assert all(torch.equal(tensor, module.state_dict()[key]) for key, tensor in before.items())


def test_trace_takes_the_evaluation_branch_when_forward_asks_for_training() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return (torch.tanh(x) if self.training else x).mean((2, 3))

    graph = trace(Branching().train(), SHAPE, name="net")

    assert [node.op for node in graph.nodes] == ["Conv", "GlobalAveragePool", "Flatten"]


def test_trace_keeps_shared_weights_apart_when_batch_norms_differ() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)
            self.first = nn.BatchNorm2d(3)
            self.second = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.conv(self.first(self.conv(x)))).mean((2, 3))

    module = settle(Shared())
    x = pictures((2, *SHAPE))

    graph = trace(module, SHAPE, name="net")

    assert Counter(node.op for node in graph.nodes)["Conv"] == 2
    np.testing.assert_allclose(run_graph(graph, x), run_torch(module, x), atol=1e-5)


def test_trace_uses_a_depthwise_conv_when_batch_norm_has_nothing_before_it() -> None:
    graph = trace(settle(Head(nn.MaxPool2d(2), nn.BatchNorm2d(3))), SHAPE, name="net")

    norm = next(node for node in graph.nodes if node.name == "body.1")
    assert norm.op == "Conv"
    assert graph.is_depthwise(norm)
    assert graph.constants["body.1.weight"].shape == (3, 1, 1, 1)


def test_trace_flattens_when_the_output_is_a_map_of_one_pixel() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(3, 7, 1), nn.AdaptiveAvgPool2d(1)), SHAPE, name="net")

    assert graph.shapes[graph.output] == (1, 7)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Head(nn.Conv2d(3, 4, 1), nn.GELU("tanh")), ("GELU", "tanh", "body.1")),
        (Head(nn.Conv2d(3, 4, 1, padding=1, padding_mode="reflect")), ("reflect", "body.0")),
        (Head(nn.BatchNorm2d(3, track_running_stats=False)), ("running statistics", "body.0")),
        (Head(nn.MaxPool2d(3, dilation=2)), ("dilation", "body.0")),
        (Head(nn.AdaptiveAvgPool2d(4)), ("divide", "body.0")),
        (Head(Call(torch.tanh)), ("tanh", "body.0")),
        (Head(Call(lambda x: x.cumsum(1))), ("cumsum", "body.0")),
        (Head(Call(lambda x: x[:, ::2])), ("step 2", "body.0")),
        (Head(Call(lambda x: x.sum() if x.sum() > 0 else x)), ("cannot be traced",)),
    ],
)
def test_trace_names_layer_and_path_when_it_is_not_supported(module: nn.Module, words: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedOpError) as error:
        trace(module, SHAPE, name="net")

    assert all(word in error.value.message for word in words), error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten()),  # other number of channels
        nn.Sequential(nn.Conv2d(3, 2, 31), nn.Flatten()),  # kernel larger than the picture
        nn.Conv2d(3, 2, 3),  # no class scores
        Call(lambda x: (x, x)),  # two outputs
        Call(lambda x: x.view(-1, 5).view(1, -1)),  # batch mixed in
    ],
)
def test_trace_fails_clearly_when_shapes_do_not_fit(module: nn.Module) -> None:
    with pytest.raises(GraphError):
        trace(module, SHAPE, name="net")


def check_architecture(options: BuildOptions) -> None:
    torch.manual_seed(0)
    module = settle(build_model(options))
    x = pictures((1, options.in_channels, options.input_size, options.input_size))

    graph = trace(module, x.shape[1:], name=options.variant)

    # What the same network is off by in torch is the measure: it grows with depth, and differs between networks.
    with torch.inference_mode():
        exact = copy.deepcopy(module).double()(torch.from_numpy(x).double()).numpy()
    spread = np.abs(run_torch(module, x) - exact).max()
    np.testing.assert_allclose(
        run_graph(graph, x), exact, rtol=0, atol=5 * spread + 1e-6 * max(1.0, np.abs(exact).max())
    )
    assert graph.shapes[graph.output] == (1, options.num_classes)


@pytest.mark.parametrize(
    ("variant", "width"),
    [("mobilenet_v2", 0.25), ("shufflenet_v1_x0_25_g3", None), ("shufflenet_v2_x0_5", None), ("lenet5", None)],
)
def test_trace_computes_what_torch_computes_for_our_architectures(variant: str, width: float | None) -> None:
    check_architecture(BuildOptions(variant=variant, width=width, num_classes=10, input_size=32))


@pytest.mark.slow
@pytest.mark.parametrize("variant", variant_names())
def test_trace_computes_what_torch_computes_at_full_size(variant: str) -> None:
    check_architecture(parse_model_name(variant))
