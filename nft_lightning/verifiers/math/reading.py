"""An answer or a gold as it is compared: a value in one way of writing, and what belongs to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from nft_lightning.verifiers.math.normalise.bases import split_bases
from nft_lightning.verifiers.math.normalise.characters import plain_characters
from nft_lightning.verifiers.math.normalise.fractions import plain_fractions
from nft_lightning.verifiers.math.normalise.layout import plain_layout
from nft_lightning.verifiers.math.normalise.lists import pieces, with_dots_named
from nft_lightning.verifiers.math.normalise.numerals import plain_numerals
from nft_lightning.verifiers.math.normalise.sentence import without_sentence
from nft_lightning.verifiers.math.normalise.units import NotReadableError, split_unit

NUMBER_INDEX = re.compile(r"\d\s*\)?\s*_")
TWO_NUMBERS = re.compile(r"(?<![_^\d.])\d+(?:\.\d+)?\s+\.?\d")
SCRIPT = re.compile(r"([_^])\s*([a-zA-Z0-9])(?!\d)")
SPACE = re.compile(r"\s+")
SPACE_AT_SIGN = re.compile(r"(?<!\d) | (?!\d)")


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        text: the whole answer in plain writing; its spaces aside, equal texts are equal answers.
        core: the value, as math-verify gets it.
        units: the units of the value, or of each member of a list; empty where there are none.
        percent: True where the value is a percentage.
        bases: the bases that its numbers are said to have.
        clear: False where something about the value cannot be read: only an equal text will do.
    """

    text: str
    core: str
    units: tuple[str, ...] = ()
    percent: bool = False
    bases: tuple[int, ...] = ()
    clear: bool = True

    @cached_property
    def key(self) -> str:
        """Return the text without the spaces that say nothing; equal keys are equal answers."""
        return key_of(self.text)


def read(text: str) -> Reading:
    r"""Return what ``text``, the inside of a box or a gold, says.

    >>> read(r"x = 4.5e33 \text{ erg/s}").core, read("10 000").core, read("7 8").clear
    ('x = 4.5 \\times 10^{33}', '10000', False)
    """
    text = plain_text(text)
    try:
        core, units, percent = without_units(text)
        core, bases = split_bases(plain_fractions(plain_numerals(core)))
    except (NotReadableError, ValueError):
        return Reading(text, text, clear=False)
    clear = TWO_NUMBERS.search(core) is None and NUMBER_INDEX.search(core) is None
    return Reading(text, with_dots_named(core), units, percent, bases, clear)


def plain_text(text: str) -> str:
    """Return ``text`` in plain characters, without its layout, with its numbers in one way."""
    return plain_fractions(plain_numerals(without_sentence(plain_layout(plain_characters(text)))))


def without_units(text: str) -> tuple[str, tuple[str, ...], bool]:
    """Return the value without units, the units of its members, and whether it is a percentage.

    Raises:
        NotReadableError: the words behind a value change it.
    """
    parts = pieces(text)
    if len(parts) == 1:
        found = split_unit(text)
        return found.core, (found.unit,) if found.unit else (), found.percent
    splits = [split_unit(part) for part in parts]
    percent = all(s.percent for s in splits)
    cores = [f"{s.core}\\%" if s.percent and not percent else s.core for s in splits]
    units = tuple(s.unit for s in splits)
    return ", ".join(cores), units if any(units) else (), percent


def key_of(text: str) -> str:
    """Return ``text`` without the spaces that say nothing; 7 8 is not 78.

    >>> key_of("x ^2 + 7 8")
    'x^{2}+7 8'
    """
    return SPACE_AT_SIGN.sub("", SPACE.sub(" ", SCRIPT.sub(r"\1{\2}", text)).strip())
