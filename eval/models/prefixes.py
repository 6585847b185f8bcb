"""Found prompts: token sequences before a class name, in the place of sentences (CLIP-Auto).

A file of prefixes has one on each line: token ids (`1256 1125 539 320`, the form of ROZ's logs), or
words. In a log of a search the same prefix comes again and again; prefixes are ranked by how often
they do, and the first ones form an ensemble, as ROZ does (Wang et al. 2024, its released code).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn import functional

from curate.errors import CurateError
from eval.models.classifier import TEXT_BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from eval.models.classifier import Clip

Prefix = tuple[int, ...]
_MAX_BYTES = 64 << 20


def read_prefixes(path: Path, clip: Clip, top: int | None = None) -> tuple[Prefix, ...]:
    """The prefixes of a file, most frequent first; of equally frequent ones, the earlier.

    Args:
        path: one prefix on each line; empty lines are passed over.
        clip: the model that reads them.
        top: how many; None: all.

    Raises:
        CurateError: the file is missing, no text or empty, a line holds no token, or one that the
            model does not know.
    """
    tokenizer = tokenizer_of(clip)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CurateError(f"{path}: has more than {_MAX_BYTES >> 20} MiB; no list of prefixes.")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CurateError(f"{path}: not readable as a list of prefixes ({error}).") from error
    found = [
        _parsed(tokenizer, line, f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise CurateError(f"{path}: no prefixes are in it.")
    return tuple(prefix for prefix, _ in Counter(found).most_common(top))


def prefix_words(clip: Clip, prefix: Prefix) -> str:
    """The words that a prefix stands for."""
    return str(tokenizer_of(clip).decode(list(prefix))).strip()


def prefix_texts(clip: Clip, names: Sequence[str], prefixes: Sequence[Prefix]) -> Tensor:
    """Class names -> (C, d) fp32 unit rows: mean over prefixes of unit rows, normalised again.

    Raises:
        CurateError: a prefix and a name are longer than the model reads.
    """
    total = None
    for prefix in prefixes:
        unit = functional.normalize(encoded(clip, prefixed(clip, names, prefix)), dim=1)
        total = unit if total is None else total + unit
    if total is None:
        raise CurateError("no prefix was given; at least one is needed")
    return functional.normalize(total, dim=1)


def prefixed(clip: Clip, names: Sequence[str], prefix: Prefix) -> Tensor:
    """(C, context) int64 tokens: start, prefix, name, full stop, end, zeros.

    Raises:
        CurateError: that is longer than the model reads.
    """
    tokenizer = tokenizer_of(clip)
    context = int(tokenizer.context_length)
    tokens = torch.zeros(len(names), context, dtype=torch.long)
    for row, name in enumerate(names):
        inner = [*prefix, *tokenizer.encode(f"{name}.")]
        line = [tokenizer.sot_token_id, *inner, tokenizer.eot_token_id]
        if len(line) > context:
            raise CurateError(
                f"class {name!r} behind a prefix of {len(prefix)} tokens has {len(line)} tokens, "
                f"and {clip.name} reads {context}; take a shorter prefix"
            )
        tokens[row, : len(line)] = torch.tensor(line)
    return tokens.to(clip.device)


def encoded(clip: Clip, tokens: Tensor) -> Tensor:
    """(C, context) tokens -> (C, d) fp32 features, not normalised, without gradients."""
    model: Any = clip.model
    starts = range(0, len(tokens), TEXT_BATCH)
    with torch.no_grad():
        return torch.cat(
            [model.encode_text(tokens[start : start + TEXT_BATCH]).float() for start in starts]
        )


def tokenizer_of(clip: Clip) -> SimpleTokenizer:
    """The model's tokenizer, of CLIP's own kind.

    Raises:
        CurateError: it is another kind, for which the ids of prefixes mean nothing.
    """
    if not isinstance(clip.tokenize, SimpleTokenizer):
        raise CurateError(
            f"model {clip.name}: reads texts with {type(clip.tokenize).__name__}, and prefixes are "
            "tokens of CLIP's own tokenizer; give templates instead"
        )
    return clip.tokenize


def _parsed(tokenizer: SimpleTokenizer, line: str, place: str) -> Prefix:
    parts = line.split()
    if all(part.isascii() and part.isdigit() for part in parts):
        # the two last tokens mark start and end of a text
        known = int(tokenizer.vocab_size) - 2
        tokens = [int(part[:9]) for part in parts]
        strange = [token for token in tokens if token >= known]
        if strange:
            raise CurateError(f"{place}: token {strange[0]} is not one of {known}.")
        return tuple(tokens)
    words = tuple(tokenizer.encode(line.strip()))
    if not words:
        raise CurateError(f"{place}: holds no token; give words or token ids.")
    return words
