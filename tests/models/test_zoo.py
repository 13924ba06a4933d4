"""From a name to a network."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import torch
from torch import Tensor, nn

from edgekit.core.errors import UnknownNameError, UsageError
from edgekit.models.architecture import BuildOptions
from edgekit.models.counting import count_macs, count_params, measure
from edgekit.models.layers import ChannelShuffle, SqueezeExcite
from edgekit.models.zoo import build_model, model_name, parse_model_name, with_sizes, with_squeeze_excite
from edgekit.train.device import place

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("variant", "num_params"),
    [
        ("squeezenet1_0", 1_248_424),
        ("squeezenet1_1", 1_235_496),
        ("mobilenet_v2", 3_504_872),
        ("shufflenet_v2_x0_5", 1_366_792),
        ("shufflenet_v2_x1_0", 2_278_604),
        ("efficientnet_lite0", 4_652_008),
        ("lenet_300_100", 266_610),
        ("lenet5", 431_080),
        ("alexnet", 61_100_840),
        ("googlenet", 6_998_552),  # BVLC's, without the heads
        ("zfnet", 62_357_608),  # by hand from figure 3; the paper gives no count
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("se_resnet50", 28_088_024),
        ("densenet121", 7_978_856),
        ("mobilenet_v3_small", 2_542_856),
        ("mobilenet_v3_large", 5_483_032),
        ("vit_ti_16", 5_717_416),
        ("vit_b_16", 86_567_656),
    ],
)
def test_parameters_are_exactly_the_published_ones(variant: str, num_params: int) -> None:
    assert measure(parse_model_name(variant))[0] == num_params


@pytest.mark.parametrize(
    ("variant", "params_millions", "macs_millions"),
    [
        ("mobilenet_v1", 4.2, 569),
        ("mobilenet_v1_w0.75", 2.6, 325),
        ("mobilenet_v1_w0.5", 1.3, 149),
        ("mobilenet_v1_w0.25", 0.5, 41),
    ],
)
def test_mobilenet_v1_matches_the_papers_table(variant: str, params_millions: float, macs_millions: float) -> None:
    num_params, macs = measure(parse_model_name(variant))

    assert round(num_params / 1e6, 1) == params_millions
    assert macs / 1e6 == pytest.approx(macs_millions, rel=0.005)


@pytest.mark.parametrize(("input_size", "macs_millions"), [(192, 418), (160, 290), (128, 186)])
def test_mobilenet_v1_resolution_multiplier_matches_the_papers_table(input_size: int, macs_millions: float) -> None:
    # Howard et al. 2017, table 7
    options = with_sizes(parse_model_name("mobilenet_v1"), input_size=input_size)

    num_params, macs = measure(options)

    assert num_params == 4_231_976
    assert macs / 1e6 == pytest.approx(macs_millions, rel=0.005)


def test_shufflenet_v1_with_three_groups_takes_about_140_million_macs() -> None:
    assert measure(parse_model_name("shufflenet_v1_x1_0_g3"))[1] / 1e6 == pytest.approx(140, rel=0.02)


def test_counting_agrees_with_a_hand_count() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU6(),
        torch.nn.ZeroPad2d((0, 1, 0, 1)),
        torch.nn.Conv2d(8, 2, 2, dilation=1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(2, 5),
    ).eval()

    # 8 x 5 x 5 outputs of 2 * 9 products; 2 x 5 x 5 outputs of 8 * 4 products; 5 outputs of 2
    assert count_macs(network, (4, 9, 10)) == 8 * 5 * 5 * 18 + 2 * 5 * 5 * 32 + 10
    assert count_params(network) == (8 * 2 * 9 + 8) + 16 + (2 * 8 * 4 + 2) + (2 * 5 + 5)


def test_counting_gives_the_same_on_a_real_network_as_before_it_is_made() -> None:
    options = BuildOptions(variant="shufflenet_v2_x0_5", num_classes=10, in_channels=1, input_size=28)
    network = build_model(options).eval()

    assert measure(options) == (count_params(network), count_macs(network, (1, 28, 28)))


def test_counting_leaves_torch_as_it_was() -> None:
    measure(parse_model_name("squeezenet1_1"))

    assert float(torch.nn.functional.relu(torch.tensor(-1.0))) == 0.0
    assert float(torch.nn.init.ones_(torch.zeros(1))) == 1.0


@pytest.mark.parametrize("name", ["mobilenet_v2_w0.35", "squeezenet1_1_w2", "shufflenet_v1_x1_0_g3", "mobilenet_v1"])
def test_model_name_round_trips(name: str) -> None:
    assert model_name(parse_model_name(name)) == name


def test_model_name_alone_stands_for_the_size_of_the_published_figures() -> None:
    lenet, mobilenet = parse_model_name("lenet5"), parse_model_name("mobilenet_v2")

    assert (lenet.input_size, lenet.num_classes, lenet.in_channels) == (28, 10, 1)
    assert (mobilenet.input_size, mobilenet.num_classes, mobilenet.in_channels) == (224, 1000, 3)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("mobilnet_v2", "mobilenet_v2"), ("shufflenet_v2_x0.5", "shufflenet_v2_x0_5"), ("squeezenet", "squeezenet1_")],
)
def test_unknown_variant_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_model_name(name)

    assert caught.value.suggestion is not None
    assert caught.value.suggestion.startswith(nearest)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet_v2_w0", "width 0.0"),
        ("mobilenet_v2_w5", "width 5.0"),
        ("shufflenet_v2_x0_5_w0.5", "no free width"),
        ("efficientnet_lite0_w2", "no free width"),
    ],
)
def test_width_that_makes_no_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_model_name(name)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("mobilenet_v2", {"input_size": 16}, "input size 16"),
        ("mobilenet_v2", {"num_classes": 1}, "at least 2 classes"),
        ("lenet5", {"input_size": 512}, "LeNet: input size 512 is out of range, expected 24 to 256"),
        ("lenet_300_100", {"input_size": 23}, "input size 23"),
    ],
)
def test_size_that_makes_no_network_is_refused(name: str, sizes: dict[str, int], message: str) -> None:
    options = with_sizes(parse_model_name(name), **sizes)

    with pytest.raises(UsageError, match=message):
        build_model(options)


def test_narrow_network_has_channels_in_eights() -> None:
    network = build_model(with_sizes(parse_model_name("mobilenet_v2_w0.35"), input_size=32, num_classes=10))

    widths = {layer.out_channels for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths)


@pytest.mark.parametrize("groups", [2, 3])
def test_channel_shuffle_gives_the_same_in_both_memory_layouts(groups: int) -> None:
    shuffle = ChannelShuffle(groups)
    x = torch.arange(2 * 12 * 5 * 4).reshape(2, 12, 5, 4).float()

    plain = shuffle(x)
    last = shuffle(x.contiguous(memory_format=torch.channels_last))

    assert torch.equal(plain, torch.nn.functional.channel_shuffle(x, groups))
    assert torch.equal(last, plain)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(shuffle(x[:, :, ::2]), plain[:, :, ::2])  # a slice is neither layout


def test_whole_network_keeps_channels_last_memory() -> None:
    """One layer that leaves it makes its neighbours convert there and back, at every step of training."""
    network = place(build_model(BuildOptions(variant="shufflenet_v2_x0_5", num_classes=10, input_size=32)), CPU).train()
    layouts: dict[str, bool] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            layouts[name] = output.ndim != 4 or output.is_contiguous(memory_format=torch.channels_last)

        return hook

    for name, layer in network.named_modules():
        layer.register_forward_hook(note(name))
    network(torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last))

    assert [name for name, is_kept in layouts.items() if not is_kept] == []


def test_width_in_the_variants_name_is_built_even_without_the_option() -> None:
    named = build_model(BuildOptions(variant="mobilenet_v1_w0.25", num_classes=10, input_size=32))
    spelled = build_model(BuildOptions(variant="mobilenet_v1", width=0.25, num_classes=10, input_size=32))
    assert [p.shape for p in named.parameters()] == [p.shape for p in spelled.parameters()]


CONVENTIONS = {"padding": "same", "activation": "relu", "batch_norm": False}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_convention_is_refused_when_the_architecture_would_ignore_it(convention: str) -> None:
    options = {"variant": "shufflenet_v2_x0_5", convention: CONVENTIONS[convention]}

    with pytest.raises(UsageError, match=f"no free {convention}"):
        build_model(BuildOptions(**options))


@pytest.mark.parametrize("variant", ["mobilenet_v1", "mobilenet_v2"])
def test_conventions_change_no_weight_but_batch_norm(variant: str) -> None:
    plain = BuildOptions(variant=variant, width=0.25)
    same = build_model(msgspec.structs.replace(plain, padding="same", activation="relu6", batch_norm=False))
    own = build_model(plain)

    def shapes(module: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    assert shapes(same) == shapes(own)
    assert not any(isinstance(layer, nn.BatchNorm2d | nn.ReLU) for layer in same.modules())
    assert all(layer.bias is not None for layer in same.modules() if isinstance(layer, nn.Conv2d))
    own_activation = nn.ReLU if variant == "mobilenet_v1" else nn.ReLU6
    assert {type(layer) for layer in own.modules() if isinstance(layer, nn.ReLU | nn.ReLU6)} == {own_activation}
    assert count_macs(same, (3, 224, 224)) == count_macs(own, (3, 224, 224))


@pytest.mark.parametrize("variant", ["resnet18", "resnet34", "resnet50"])
def test_squeeze_excite_of_a_resnet_is_the_catalogues_own_variant(variant: str) -> None:
    options = BuildOptions(variant=variant, width=0.125, num_classes=7, in_channels=1, input_size=28)

    named = with_squeeze_excite(options)

    assert (named.variant, named.squeeze_excite, model_name(named)) == (f"se_{variant}", False, f"se_{variant}_w0.125")
    assert with_squeeze_excite(named) == named
    flagged = build_model(msgspec.structs.replace(options, squeeze_excite=True)).state_dict()
    assert {key: value.shape for key, value in flagged.items()} == {
        key: value.shape for key, value in build_model(named).state_dict().items()
    }


@pytest.mark.parametrize(
    ("name", "num_blocks"),
    [
        ("se_mobilenet_v2_w0.5", 17),
        ("se_mobilenet_v2", 17),
        ("se_shufflenet_v1_x0_5_g3", 16),
        ("se_efficientnet_lite0", 16),
    ],
)
def test_squeeze_excite_is_in_every_residual_block(name: str, num_blocks: int) -> None:
    options = parse_model_name(name)
    network, plain = build_model(options), build_model(parse_model_name(name.removeprefix("se_")))

    excites = [layer for layer in network.modules() if isinstance(layer, SqueezeExcite)]

    assert model_name(options) == name
    assert options.squeeze_excite
    assert len(excites) == num_blocks
    added = sum(weight.numel() for layer in excites for weight in layer.parameters())
    assert count_params(network) == count_params(plain) + added


@pytest.mark.parametrize("variant", ["vgg16", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_squeeze_excite_is_refused_where_it_has_no_place(variant: str) -> None:
    with pytest.raises(UsageError, match="takes no squeeze-and-excitation") as caught:
        parse_model_name(f"se_{variant}")

    assert caught.value.hint is not None
    assert "mobilenet_v2" in caught.value.hint


def test_zfnet_normalizes_responses_by_alexnets_sum_of_squares() -> None:
    network = build_model(parse_model_name("zfnet_w0.125"))
    norms = [layer for layer in network.modules() if isinstance(layer, nn.LocalResponseNorm)]

    assert len(norms) == 2
    for norm in norms:  # Krizhevsky et al. 2012, section 3.3: a / (2 + 1e-4 * the sum of 5 squares) ** 0.75
        maps = 100 * torch.rand(1, 8, 1, 1)
        squares = torch.stack([(maps[0, max(0, at - 2) : at + 3] ** 2).sum() for at in range(8)])
        torch.testing.assert_close(norm(maps).flatten(), maps.flatten() / (2 + 1e-4 * squares) ** 0.75)


def test_unknown_variant_is_named_as_it_was_given_when_it_begins_with_se() -> None:
    with pytest.raises(UnknownNameError, match="'se_resnet19'"):
        parse_model_name("se_resnet19")
