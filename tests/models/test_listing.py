"""What `edgekit zoo` lists."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from edgekit.models.listing import ZooListing, encode_listing, list_models
from edgekit.models.weights import embedded_names
from edgekit.models.zoo import variant_names


def test_listing_has_every_alias_and_variant_once() -> None:
    names = [entry.name for entry in list_models()]

    assert names == [*embedded_names(), *variant_names()]


def test_listing_counts_the_networks_themselves() -> None:
    entries = {entry.name: entry for entry in list_models()}

    mobilenet = entries["mobilenet_v2"]
    assert (mobilenet.num_params, mobilenet.macs) == (3_504_872, 300_774_272)
    assert mobilenet.float_bytes == 4 * mobilenet.num_params
    assert (mobilenet.input_size, mobilenet.num_classes, mobilenet.weights) == (224, 1000, None)
    assert mobilenet.published is not None
    assert mobilenet.published.top1 == 72.0


def test_json_form_is_one_document_with_models() -> None:
    entries = list_models()

    document = msgspec.json.decode(encode_listing(entries))

    assert list(document) == ["models"]
    assert {"name", "num_params", "macs"} <= document["models"][0].keys()
    assert msgspec.convert(document, ZooListing).models == tuple(entries)


def test_listing_imports_no_compiler() -> None:
    """Counting must not go through torch's Python decompositions, whose import takes seconds."""
    program = (
        "import sys; from edgekit.models.listing import list_models; list_models(); "
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
