"""Counting tokens offline, in o200k_base: the encoding of OpenAI's models since gpt-4o.

Loading the tokenizer takes 0.6 s and 140 MB, so it happens on first use, once. Everything here blocks: callers
in an event loop use a thread. What is counted, and what cannot be, is `estimate`'s business.
"""

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpe_openai.tokenizer import Encoding

# The tokenizer refuses 1,000,000 characters, and 200,000 tokens; a character can be four tokens.
_PIECE_CHARS = 40_000


def warm() -> None:
    """Load the tokenizer now, so that the first count does not wait for it. Blocks."""
    _encoding()


def count_tokens(text: str) -> int:
    """Tokens of a text. Cutting a long one adds at most one token per 40,000 characters. Blocks: 20 MB a second."""
    encoding = _encoding()
    pieces = (text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS))
    return sum(len(encoding.encode_ordinary(piece)) for piece in pieces)


@lru_cache(maxsize=1)
def _encoding() -> "Encoding":
    # A program of the SDK's user may have made warnings errors; the package uses what Python 3.11 wants to be rid of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding  # noqa: PLC0415 - late on purpose: it loads 200,000 tokens

        return get_encoding("o200k_base")
