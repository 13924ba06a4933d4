"""What a TFLite file says about itself: the official metadata flatbuffer, and files in a zip archive behind it.

The flatbuffer (`TFLITE_METADATA`, identifier M001) follows `metadata_schema.fbs` 1.1.0 of tflite-support, which no
light package ships; the field numbers below are those of the schema's tables. Android Studio, ML Kit and MediaPipe
read labels and normalization from it. The archive carries the labels that it refers to, and edgekit's own card, so
that a reader needs `zipfile` alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import flatbuffers
import msgspec

from edgekit.core.artifact import CARD_KEY, ModelCard

METADATA_NAME = "TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
MIN_PARSER_VERSION = "1.0.0"
LABELS_FILE = "labels.txt"
CARD_FILE = f"{CARD_KEY}.json"
EARLIEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
UNIX = 3
READABLE_FILE = 0o100644 << 16

# Enumerations and unions of metadata_schema.fbs.
TENSOR_AXIS_LABELS = 2
COLOR_SPACE_RGB = 1
COLOR_SPACE_GRAYSCALE = 2
CONTENT_FEATURE = 1
CONTENT_IMAGE = 2
OPTIONS_NORMALIZATION = 1


def build_metadata(card: ModelCard, input_name: str, output_name: str) -> bytes:
    """The metadata flatbuffer of an image classifier.

    Normalization is given in the schema's terms, `(picture - mean) / std` of 0..255 values, and as the schema wants it
    describes the float input; int8 inputs follow from it by the tensor's own scale and zero-point.

    Args:
        card: Model, labels and preprocessing.
        input_name: Input tensor's name.
        output_name: Output tensor's name.
    """
    builder = _TableBuilder(1024)
    inputs = [_input_table(builder, card, input_name)]
    outputs = [_output_table(builder, card, output_name)]
    # SubGraphMetadata: name, description, input_tensor_metadata, output_tensor_metadata, ...
    subgraph = builder.table(7, {2: builder.offsets(inputs), 3: builder.offsets(outputs)})
    # ModelMetadata: name, description, version, subgraph_metadata, author, license, associated_files,
    # min_parser_version
    name, description = builder.CreateString(card.model), builder.CreateString(f"edgekit, scheme {card.scheme}")
    subgraphs, version = builder.offsets([subgraph]), builder.CreateString(MIN_PARSER_VERSION)
    model = builder.table(8, {0: name, 1: description, 3: subgraphs, 7: version})
    builder.Finish(model, METADATA_IDENTIFIER)
    return bytes(builder.Output())


def append_files(model: bytes | memoryview, card: ModelCard) -> bytes:
    """The model with `labels.txt` (when there are labels) and the card in an uncompressed zip archive behind it.

    Interpreters read from the front and stop at the end of the flatbuffer; zip readers find their directory from the
    back. Dates are fixed, so equal content gives equal bytes.
    """
    stream = io.BytesIO()
    stream.write(model)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        if card.labels:
            _add_file(archive, LABELS_FILE, "".join(f"{_one_line(label)}\n" for label in card.labels).encode())
        _add_file(archive, CARD_FILE, msgspec.json.encode(card))
    return stream.getvalue()


def _one_line(label: str) -> str:
    return " ".join(label.split())


def _add_file(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, EARLIEST_ZIP_DATE)
    entry.create_system = UNIX
    entry.external_attr = READABLE_FILE
    archive.writestr(entry, content)


class _TableBuilder(flatbuffers.Builder):
    """The three shapes that this schema needs of flatbuffers' low-level builder."""

    def table(self, num_fields: int, offsets: dict[int, int], uint8s: dict[int, int] | None = None) -> int:
        """A table with fields by number: offsets of children, and one-byte enumerations or union tags."""
        self.StartObject(num_fields)
        for field, offset in offsets.items():
            self.PrependUOffsetTRelativeSlot(field, offset, 0)
        for field, value in (uint8s or {}).items():
            self.PrependUint8Slot(field, value, 0)
        return self.EndObject()

    def size_table(self, width: int, height: int) -> int:
        """An ImageSize."""
        self.StartObject(2)
        self.PrependUint32Slot(0, width, 0)
        self.PrependUint32Slot(1, height, 0)
        return self.EndObject()

    def offsets(self, offsets: Sequence[int]) -> int:
        """A vector of tables."""
        self.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.PrependUOffsetTRelative(offset)
        return self.EndVector()

    def floats(self, values: Sequence[float]) -> int:
        """A vector of float32."""
        self.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.PrependFloat32(value)
        return self.EndVector()


def _input_table(builder: _TableBuilder, card: ModelCard, tensor_name: str) -> int:
    spec = card.preprocess
    height, width = spec.input_size
    color_space = COLOR_SPACE_GRAYSCALE if spec.num_channels == 1 else COLOR_SPACE_RGB
    # ImageProperties: color_space, default_size
    image = builder.table(2, {1: builder.size_table(width, height)}, {0: color_space})
    # Content: content_properties_type, content_properties, range
    content = builder.table(3, {1: image}, {0: CONTENT_IMAGE})
    mean = builder.floats([255 * value for value in spec.mean])
    std = builder.floats([255 * value for value in spec.std])
    normalization = builder.table(2, {0: mean, 1: std})
    # ProcessUnit: options_type, options
    unit = builder.table(2, {1: normalization}, {0: OPTIONS_NORMALIZATION})
    # Stats: max, min (of the normalized input)
    highest = [(1 - mean) / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    lowest = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    stats = builder.table(2, {0: builder.floats(highest), 1: builder.floats(lowest)})
    name = builder.CreateString(tensor_name)
    description = builder.CreateString(f"picture, {height} x {width}")
    units = builder.offsets([unit])
    # TensorMetadata: name, description, dimension_names, content, process_units, stats, associated_files
    return builder.table(7, {0: name, 1: description, 3: content, 4: units, 5: stats})


def _output_table(builder: _TableBuilder, card: ModelCard, tensor_name: str) -> int:
    # Content of type FeatureProperties, a table without fields
    content = builder.table(3, {1: builder.table(0, {})}, {0: CONTENT_FEATURE})
    meaning = "features, compared by their cosine" if card.kind == "features" else "one score per class"
    fields = {0: builder.CreateString(tensor_name), 1: builder.CreateString(meaning), 3: content}
    if card.labels:
        # AssociatedFile: name, description, type, locale
        file_name, description = builder.CreateString(LABELS_FILE), builder.CreateString("class names, one a line")
        labels = builder.table(4, {0: file_name, 1: description}, {2: TENSOR_AXIS_LABELS})
        fields[6] = builder.offsets([labels])
    return builder.table(7, fields)
