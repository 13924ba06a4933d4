"""Interleaved range-ANS (Duda 2013; Giesen 2014) in many lanes, so that numpy codes a vector of symbols at a time.

Every lane is a 32-bit state that gives and takes 16-bit words. All lanes share one stream of words: in a step the
lanes that need a word take the next ones in the order of the lanes. States live on from tensor to tensor, so that the
two bytes that a lane costs are paid once.
"""

# numpy's stubs lose the type of .reshape, .view, .copy and .T under Python 3.10; everything else stays strict.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import IntegrityError

PROBABILITY_BITS = 15
PROBABILITY_TOTAL = 1 << PROBABILITY_BITS
MAX_LANES = 1024
_LOWER_BOUND = 1 << 16

U16: TypeAlias = npt.NDArray[np.uint16]
U32: TypeAlias = npt.NDArray[np.uint32]

_WORD_BITS = np.uint32(16)
_LOW = np.uint32(_LOWER_BOUND)
_SHIFT = np.uint32(PROBABILITY_BITS)
_MASK = np.uint32(PROBABILITY_TOTAL - 1)


class LaneEncoder:
    """Codes steps from the last to the first (ANS is a stack). A step uses the first lanes, one symbol each.

    Args:
        num_lanes: Lanes, at most `MAX_LANES`.
    """

    def __init__(self, num_lanes: int) -> None:
        self._states = np.full(num_lanes, _LOWER_BOUND, dtype=np.uint64)

    def encode_steps(self, freqs: U16, starts: U16, step_sizes: list[int]) -> U16:
        """Code a run of steps, back to front.

        Args:
            freqs: Frequency of every symbol in its distribution, of `PROBABILITY_TOTAL`; in decoding order.
            starts: Sum of the frequencies of the symbols before it.
            step_sizes: Symbols in each step.

        Returns:
            The words that a decoder reads for these steps, in reading order.
        """
        words: list[U16] = []
        end = int(freqs.size)
        shift = np.uint64(32 - PROBABILITY_BITS)
        bits = np.uint64(PROBABILITY_BITS)
        for size in reversed(step_sizes):
            begin = end - size
            freq = freqs[begin:end].astype(np.uint64)
            state = self._states[:size]
            full = np.flatnonzero(state >= (freq << shift))
            if full.size:
                words.append(state[full].astype(np.uint16))  # the low word: the cast drops the rest
                state[full] >>= np.uint64(16)
            quotient = state // freq
            state -= quotient * freq
            state += (quotient << bits) + starts[begin:end]
            end = begin
        words.reverse()
        return np.concatenate(words) if words else np.empty(0, dtype=np.uint16)

    def states(self) -> U32:
        """What a decoder starts from."""
        return self._states.astype(np.uint32)


class LaneDecoder:
    """Decodes steps front to back.

    Args:
        states: What the encoder ended with.
    """

    def __init__(self, states: U32) -> None:
        self._states = states.copy()
        self._words: U16 = np.empty(0, dtype=np.uint16)
        self._position = 0

    def feed(self, words: U16) -> None:
        """Set the words of the next section. The words before must be used up."""
        self._words = words
        self._position = 0

    @property
    def num_words_read(self) -> int:
        """Words taken of the section so far."""
        return self._position

    @property
    def num_words_left(self) -> int:
        """Words of the section that nobody took yet."""
        return int(self._words.size) - self._position

    @property
    def is_at_rest(self) -> bool:
        """Whether every lane is where the encoder started: so it is after the last symbol."""
        return bool((self._states == _LOW).all())

    def decode_step(self, offsets: U32, slots: U16, freqs: U32, starts: U32) -> U16:
        """Decode one symbol in each of the first lanes.

        Args:
            offsets: For every lane, where its distribution begins in `slots`.
            slots: The symbol of every slot of every distribution, `PROBABILITY_TOTAL` each.
            freqs: Frequency of every symbol.
            starts: Sum of the frequencies before it.

        Returns:
            Symbols, one for each offset.

        Raises:
            IntegrityError: The words ran out.
        """
        state = self._states[: offsets.size]
        low = state & _MASK
        symbols = slots.take(low + offsets)
        self._advance(state, low, freqs.take(symbols), starts.take(symbols))
        return symbols

    def peek(self, num_symbols: int) -> U32:
        """The slot, below `PROBABILITY_TOTAL`, of the next symbol in each of the first lanes."""
        return self._states[:num_symbols] & _MASK

    def advance(self, low: U32, freqs: U32, starts: U32) -> None:
        """Go past the symbols that were found at the slots.

        Args:
            low: From `peek`.
            freqs: Frequency of every symbol.
            starts: Sum of the frequencies before it.

        Raises:
            IntegrityError: The words ran out.
        """
        self._advance(self._states[: low.size], low, freqs, starts)

    def _advance(self, state: U32, low: U32, freqs: U32, starts: U32) -> None:
        state >>= _SHIFT
        state *= freqs
        state += low
        state -= starts
        empty = (state < _LOW).nonzero()[0]
        count = empty.size
        if count:
            words = self._words[self._position : self._position + count]
            if words.size != count:
                raise IntegrityError("the coded words end before the last symbol", hint="get the file again")
            state[empty] = (state[empty] << _WORD_BITS) | words
            self._position += count
