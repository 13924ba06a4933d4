"""The manifest of a bundle: what is in it, for which boards, and what it has to answer. See docs/agent-bundle.md."""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

import msgspec

from edgekit.core.artifact import FileFormat

MANIFEST_VERSION = 1

MANIFEST, MODEL, LABELS, GOLDEN, LOGITS = "manifest.json", "model.ekz", "labels.txt", "golden.bin", "logits.bin"

GoldenOrigin: TypeAlias = Literal["test_pictures", "generated"]
RuntimeName: TypeAlias = Literal["litert", "tflite_runtime", "tensorflow", "onnxruntime"]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the bundle.

    Args:
        name: One of the names that a bundle may hold; never a path.
        size_bytes: Its size.
        sha256: Of its content, lower-case hex.
    """

    name: str
    size_bytes: int
    sha256: str


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model in `model.ekz`, once it is unpacked.

    Args:
        format: "tflite" or "onnx".
        size_bytes: Of the unpacked file.
        sha256: Of the unpacked file, lower-case hex.
        name: Variant name from its card, e.g. "mobilenet_v2_w0.5".
        scheme: Quantization scheme id.
        input_size: (height, width) in pixels.
        num_channels: 3 for RGB, 1 for gray.
        num_classes: Lines of `labels.txt`.
    """

    format: FileFormat
    size_bytes: int
    sha256: str
    name: str
    scheme: str
    input_size: tuple[int, int]
    num_channels: int
    num_classes: int


class GoldenEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures whose answers are known.

    `golden.bin` holds them, uint8 [n, height, width, channels]; `logits.bin` their answers, little-endian float32
    [n, classes].

    Args:
        origin: Pictures of the dataset's test split, or smooth patterns that were generated.
        source: Which: dataset and picture numbers, or the seed.
        judge: What said the expected answers, e.g. "onnxruntime 1.32.0 (exact), model.onnx".
        top1: Expected class of each picture.
        tolerance: Largest difference of any logit that is still a right answer, in logits.
    """

    origin: GoldenOrigin
    source: str
    judge: str
    top1: tuple[int, ...]
    tolerance: float


class RuntimeNeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runtime that can run the model.

    Args:
        name: Which.
        at_least: Lowest version, e.g. "2.0".
    """

    name: RuntimeName
    at_least: str


class Compatible(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the bundle may be installed.

    Args:
        boards: Board ids; one of them.
        architectures: As `uname -m` says; one of them. Empty for any.
        python_at_least: (major, minor).
        runtimes: One of them is enough.
    """

    boards: tuple[str, ...]
    architectures: tuple[str, ...]
    python_at_least: tuple[int, int]
    runtimes: tuple[RuntimeNeed, ...]


class Needs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be free on the board.

    Args:
        ram_mib: Memory, to unpack, load and run it.
        disk_mib: Disk, for the bundle and the unpacked model.
    """

    ram_mib: int
    disk_mib: int


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model may cost on the board, judged before it takes over.

    Args:
        p90_ms: 90th percentile of the inference; None for no bar.
        rss_mib: Resident memory of the agent that serves it; None for no bar.
    """

    p90_ms: float | None = None
    rss_mib: float | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a bundle but its files' contents.

    Args:
        name: Of what is released: the releases of one name replace one another.
        release: Rises with every release of that name; 0 for one that was never released (made of a run on the spot).
        created_unix_s: When it was made, as far as its maker said; None when it did not.
        made_by: Program and version.
        compatible: Where it may be installed.
        needs: What must be free there.
        budgets: What it may cost there.
        files: All files but the manifest itself, sorted by name.
        model: What `model.ekz` holds.
        golden: Pictures and their answers.
        baseline: Share of each class among the predictions on test pictures, adding up to 1, for drift; None when
            there were no pictures.
        version: Of this format.
    """

    name: str
    release: int
    created_unix_s: int | None
    made_by: str
    compatible: Compatible
    needs: Needs
    budgets: Budgets
    files: tuple[FileEntry, ...]
    model: ModelEntry
    golden: GoldenEntry
    baseline: tuple[float, ...] | None
    version: int = MANIFEST_VERSION

    def file(self, name: str) -> FileEntry:
        """The entry of a file; every manifest that was checked has one for each name but its own.

        Raises:
            KeyError: No such entry.
        """
        for entry in self.files:
            if entry.name == name:
                return entry
        raise KeyError(name)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: the same for the same manifest."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def describe_file(name: str, content: bytes) -> FileEntry:
    """The entry of a file."""
    return FileEntry(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
