"""Keep freed memory while training, instead of giving it back to the kernel after every layer."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

# Numbers of glibc's <malloc.h>, see mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_KEEP = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
# What glibc's own thresholds grow to in a program that has freed large blocks, and its defaults otherwise.
_USUAL = {_M_MMAP_MAX: 65536, _M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 64 << 20, _M_TOP_PAD: 128 << 10}


@contextlib.contextmanager
def retained_memory() -> Iterator[None]:
    """Let the C library reuse large blocks for as long as this lasts.

    A training step allocates and frees an activation per layer, tens of MiB each. glibc maps such blocks anew every
    time, and the kernel clears every page: a fifth of a MobileNet's step on the CPU. Does nothing where the C library
    is not glibc.
    """
    libc = _find_glibc()
    if libc is None:
        yield
        return
    _apply(libc, _KEEP)
    try:
        yield
    finally:
        _apply(libc, _USUAL)
        libc.malloc_trim(0)


def _find_glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _apply(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(ctypes.c_int(option), ctypes.c_int(value))
