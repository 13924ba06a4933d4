"""The pictures in a folder that are most like one: described once, compared by cosine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgekit.core.errors import DataError, OutputError, UsageError
from edgekit.core.progress import Progress, Silent
from edgekit.retrieval.extractor import Extractor
from edgekit.retrieval.folder import list_pictures
from edgekit.retrieval.index import DamagedIndexError, Entry, FeatureIndex
from edgekit.retrieval.nearest import Best, Vectors, similarities
from edgekit.runtime.preprocess import Picture
from edgekit.runtime.reading import decode_picture, read_content, read_picture

_BATCH = 32
"""Pictures that are held at once."""
_NUM_REASONS_KEPT = 20
_NONE_YET: Vectors = np.empty(0, np.float32)


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to search for, and where.

    Args:
        folder: Pictures in it and below it.
        like: The picture that they are compared with.
        model: File of `edgekit embed`.
        top: How many of the nearest are wanted.
        index_path: Where vectors are kept; None for the user's cache folder.
        num_threads: Threads of the runtime.
    """

    folder: Path
    like: Path
    model: Path
    top: int = 10
    index_path: Path | None = None
    num_threads: int = 1


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that was found.

    Args:
        path: Its file.
        similarity: Cosine of the two vectors, -1 to 1; 1 for the same picture.
    """

    path: str
    similarity: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a search.

    Args:
        matches: The nearest first; of equally near ones, the first by path.
        num_pictures: Pictures that were compared.
        num_described: Of these, how many went through the network; the others were known.
        index_path: Where the vectors are kept; None when only in memory.
        unreadable: One line per picture that could not be read (the first twenty).
        num_unreadable: How many could not be read.
    """

    matches: tuple[Match, ...]
    num_pictures: int
    num_described: int
    index_path: Path | None
    unreadable: tuple[str, ...] = ()
    num_unreadable: int = 0


def search(request: SearchRequest, progress: Progress | None = None) -> Found:
    """Find the pictures most like one. Pictures stream through: memory does not grow with their number.

    Raises:
        UsageError: No such folder, `top` below 1, a model that is no extractor, an index that is something else.
        DataError: The picture cannot be read, or the folder holds none that can.
        OutputError: The index cannot be read or written.
        IntegrityError, GraphError, MissingDependencyError: As `Extractor.open`.
    """
    if request.top < 1:
        raise UsageError(f"top is {request.top}, expected at least 1")
    extractor = Extractor.open(request.model, num_threads=request.num_threads)
    paths = list_pictures(request.folder)
    query = extractor.describe(extractor.fit(read_picture(request.like))[np.newaxis])[0]
    with FeatureIndex(request.index_path, extractor.digest, extractor.num_features) as index:
        try:
            return _compare(query, _Reader(extractor, index), paths, request, progress or Silent())
        except DamagedIndexError:
            index.rebuild()
        try:
            return _compare(query, _Reader(extractor, index), paths, request, progress or Silent())
        except DamagedIndexError as error:
            raise OutputError(
                f"the index {index.path} is damaged again as soon as it is made: {error}",
                hint="name a file on another disk with --index",
            ) from error


def _compare(
    query: Vectors, reader: _Reader, paths: Sequence[str], request: SearchRequest, progress: Progress
) -> Found:
    best = Best(request.top)
    num_pictures = 0
    progress.begin("search", len(paths))
    for known, vectors in reader.stream(paths, progress):
        best.add(similarities(query, vectors), known)
        num_pictures += len(known)
    progress.end()
    if not num_pictures:
        raise DataError(f"no picture in {request.folder} can be read: {reader.reasons[0]}")
    return Found(
        matches=tuple(Match(path=path, similarity=score) for path, score in best.ranked),
        num_pictures=num_pictures,
        num_described=reader.num_described,
        index_path=reader.index.path,
        unreadable=tuple(reader.reasons),
        num_unreadable=reader.num_unreadable,
    )


class _Reader:
    """Vectors of picture files, from the index or through the network."""

    def __init__(self, extractor: Extractor, index: FeatureIndex) -> None:
        self.extractor = extractor
        self.index = index
        self.num_described = 0
        self.num_unreadable = 0
        self.reasons: list[str] = []

    def stream(self, paths: Sequence[str], progress: Progress) -> Iterator[tuple[list[str], Vectors]]:
        """Paths and their unit vectors [n, d], in order, unreadable ones left out."""
        for start in range(0, len(paths), _BATCH):
            batch = paths[start : start + _BATCH]
            vectors = self._vectors(batch)
            known = [path for path in batch if path in vectors]
            progress.advance(len(batch))
            if known:
                yield known, np.stack([vectors[path] for path in known])

    def _vectors(self, paths: Sequence[str]) -> dict[str, Vectors]:
        """Vectors of the files that can be read; what was not known is, afterwards."""
        seen = [one for one in map(self._look, paths) if one is not None]
        new = [one for one in seen if one.picture is not None]
        vectors = {one.entry.path: one.entry.vector for one in seen}
        if new:
            pictures = np.stack([one.picture for one in new if one.picture is not None])
            vectors.update(zip((one.entry.path for one in new), self.extractor.describe(pictures), strict=True))
            self.num_described += len(new)
        self.index.remember(
            [msgspec.structs.replace(one.entry, vector=vectors[one.entry.path]) for one in seen if one.was_read]
        )
        return vectors

    def _look(self, path: str) -> _Seen | None:
        """What there is to know of a file; None, and a reason, when it cannot be read."""
        try:
            stat = Path(path).stat()
            entry = Entry(
                path=path,
                size=stat.st_size,
                mtime_ns=stat.st_mtime_ns,
                ctime_ns=stat.st_ctime_ns,
                content=b"",
                vector=_NONE_YET,
            )
            vector = self.index.recall(entry)
            if vector is not None:
                return _Seen(entry=msgspec.structs.replace(entry, vector=vector), was_read=False)
            content = read_content(Path(path))
            entry = msgspec.structs.replace(entry, content=hashlib.sha256(content).digest())
            vector = self.index.recall_content(entry.content)
            if vector is not None:
                return _Seen(entry=msgspec.structs.replace(entry, vector=vector), was_read=True)
            picture = self.extractor.fit(decode_picture(content, name=path))
            return _Seen(entry=entry, was_read=True, picture=picture)
        except OSError as error:
            self._leave_out(f"cannot read picture {path}: {error.strerror or error}")
        except DataError as error:
            self._leave_out(error.message)
        return None

    def _leave_out(self, reason: str) -> None:
        self.num_unreadable += 1
        if len(self.reasons) < _NUM_REASONS_KEPT:
            self.reasons.append(reason)


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One picture file: with its vector, or with the picture that is still to be described."""

    entry: Entry
    was_read: bool
    picture: Picture | None = None
