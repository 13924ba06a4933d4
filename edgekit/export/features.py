"""A classifier cut into a feature extractor: the network up to what its last layer is given.

What the last layer sees is the network's description of a picture, in which pictures of one kind lie close together,
also of kinds that it was never asked to tell apart (Babenko et al. 2014, "Neural Codes for Image Retrieval").
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import GraphError
from edgekit.core.graph import WEIGHTED_OPS, Graph, Node
from edgekit.export.builder import unique_name
from edgekit.export.hub import HubModel
from edgekit.export.onnx_reader import read_onnx
from edgekit.export.sweep import eliminate_dead
from edgekit.export.unshuffle import unshuffle
from edgekit.runtime.card import require_extractor


class FeatureCut(msgspec.Struct, frozen=True, kw_only=True):
    """A graph without its classifier.

    Args:
        graph: The network up to the classifier's input; output [1, features].
        layer: Name of the layer that was cut away.
    """

    graph: Graph
    layer: str

    @property
    def num_features(self) -> int:
        """Numbers that describe a picture."""
        return self.graph.shapes[self.graph.output][-1]


def cut_classifier(graph: Graph) -> FeatureCut:
    """Cut a canonical graph before its last weighted layer, and whatever follows that.

    Of a dense layer the input is taken as it is. A convolution that classifies every place of a map, whose answers are
    then averaged (Network in Network, SqueezeNet), is given the map; its mean over the places is what a dense layer
    would be given. A convolution with one place sees its input whole, flattened.

    Raises:
        GraphError: Several layers make the answer together, or there is nothing in front of the last layer.
    """
    last = _last_layer(graph)
    source = last.inputs[0]
    if source == graph.input:
        raise GraphError(
            f"{graph.name} is one layer, {last.name}: there are no features in front of it",
            hint="use a model of at least two layers",
        )
    nodes = list(graph.nodes)
    shapes = dict(graph.shapes)
    if last.op == "Conv":
        is_single = shapes[last.output][2:] == (1, 1)
        for op in ("Flatten",) if is_single else ("GlobalAveragePool", "Flatten"):
            name = unique_name("features", {node.name for node in nodes} | shapes.keys() | graph.constants.keys())
            channels = shapes[source][1]
            is_flat = op == "Flatten"
            shapes[name] = (1, int(np.prod(shapes[source][1:]))) if is_flat else (1, channels, 1, 1)
            nodes.append(Node(name=name, op=op, inputs=(source,), outputs=(name,)))
            source = name
    return FeatureCut(
        graph=eliminate_dead(graph.replace(nodes=nodes, shapes=shapes, output=source)),
        layer=last.name,
    )


def as_extractor(hub: HubModel) -> tuple[HubModel, FeatureCut]:
    """The model as a feature extractor: its graph cut, its card without labels, torch asked for the same values.

    Raises:
        GraphError: As `cut_classifier`.
    """
    cut = cut_classifier(hub.graph)
    card = msgspec.structs.replace(hub.card, labels=(), kind="features")
    inputs = hub.torch_inputs
    extractor = msgspec.structs.replace(
        hub,
        graph=cut.graph,
        card=card,
        num_params=cut.graph.num_params,
        torch_logits=None if inputs is None else functools.partial(_torch_features, inputs, cut),
        torch_inputs=None,
    )
    return extractor, cut


def read_extractor(path: Path, layer: str) -> tuple[HubModel, FeatureCut]:
    """The float ONNX file of an extractor, read back: the network again, without the torch model that it came from.

    Args:
        path: `float.onnx` of a run of `edgekit embed`.
        layer: Name of the layer that was cut away, which the file does not hold.

    Raises:
        UsageError: The file gives classes.
        GraphError, UnsupportedOpError: As `read_onnx`.
    """
    graph, card = read_onnx(path)
    graph = unshuffle(graph)
    hub = HubModel(
        graph=graph,
        card=msgspec.structs.replace(require_extractor(card, path), scheme="float"),
        dataset=None,
        num_params=graph.num_params,
        trained=True,
        torch_logits=None,
    )
    return hub, FeatureCut(graph=graph, layer=layer)


def _torch_features(
    inputs: Callable[[str, npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    cut: FeatureCut,
    pictures: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float32]:
    """What torch gives the layer that was cut away, [n, features]."""
    given = inputs(cut.layer, pictures)
    if given.ndim == 4 and given.shape[1] == cut.num_features:
        given = given.mean(axis=(2, 3))
    return given.reshape(len(given), -1)


def _last_layer(graph: Graph) -> Node:
    """The weighted layer that nothing weighted follows.

    Raises:
        GraphError: The answer is made of several layers' outputs, or of none.
    """
    producers = graph.producers()
    name = graph.output
    while True:
        node = producers.get(name)
        if node is None:
            raise GraphError(f"{graph.name} has no layer with weights", hint="name a trained classifier")
        if node.op in WEIGHTED_OPS:
            return node
        sources = graph.data_inputs(node)
        if len(sources) != 1:
            raise GraphError(
                f"{graph.name}: {node.op} {node.name!r} answers from {len(sources)} values: no layer is the last",
                hint="export the model up to its features yourself, or name one with a single classifier layer",
            )
        name = sources[0]
