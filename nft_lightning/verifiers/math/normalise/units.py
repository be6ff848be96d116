r"""The unit, percent sign or multiplier of a number: ``5 \text{ cm}``, ``50\%``, ``7 million``."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from nft_lightning.verifiers.math.normalise.unit_names import (
    BARE,
    COMPOSED,
    DOZEN,
    NAMES,
    PERCENT,
    POWERS,
    POWERS_OF_TEN,
    RESERVED,
    TIGHT,
)

SIGNS = r"\\\$|[€£¥₹¢]"
TEXT = r"\\text\{[^{}]*\}"
POWER = r"\^\s*(?:\{\s*-?\d\s*\}|-?\d)"
VALUE_END = r"(?<=[\d}})!|a-zA-Z])"
MONEY = re.compile(rf"(?P<sign>[-+]?)\s*(?:US\s*)?(?P<money>{SIGNS})\s*(?=[\d.\\-])")
PERCENT_BEHIND = re.compile(r"\s*\\?%$")
DEGREES = re.compile(
    r"\s*\^\s*\{?\s*\\circ\s*\}?\s*(?:\\text\{\s*(?P<text>[CF])\s*\}|(?P<scale>[CF]))?$"
)
ORDINAL = re.compile(r"(?<=\d)\s*(?:\^\s*\{?\s*)?\\text\{\s*(?:st|nd|rd|th)\s*\}\s*\}?$")
FEET = re.compile(r"(?<=\d)\s*(?P<marks>'|''|\")$")
IN_TEXT = re.compile(rf"{VALUE_END}\s*(?P<unit>{TEXT}(?:\s*(?:{POWER}|\\cdot|\\times|[/*]|{TEXT}))*)$")
FRACTION = re.compile(
    rf"(?<=[\d}})])\s*\\frac\{{\s*(?P<top>{TEXT}(?:{POWER})?)\s*\}}\{{\s*(?P<bottom>{TEXT}(?:{POWER})?)\s*\}}$"
)
WORDS = re.compile(
    rf"(?<=[\d}})])(?P<gap>\s*)(?P<unit>(?:{SIGNS}|[a-zA-Z]+)(?:(?:\s*/\s*|\s+)[a-zA-Z]+)*(?:{POWER})?)$"
)
TOKEN = re.compile(
    rf"(?P<word>[A-Za-z]+(?:['-][A-Za-z]+)*|{SIGNS})|(?P<power>{POWER})|(?P<over>/)|(?P<between>\\cdot|\\times|[*.,()\s])"
)
SCALES = {None: "degree", "C": "celsius", "F": "fahrenheit"}
MANY_WORDS = 6


class NotReadableError(ValueError):
    """What is behind a number makes it something else, or nobody knows what."""


@dataclass(frozen=True)
class Split:
    """A value and what was around it.

    Attributes:
        core: the text without its unit; a multiplier has become a power of ten in it.
        unit: the unit in one way, such as ``m s^-2``; empty where there is none.
        percent: True where a percent sign was there.
    """

    core: str
    unit: str = ""
    percent: bool = False


def split_unit(text: str) -> Split:
    r"""Return a value, its unit and whether it is a percentage.

    Raises:
        NotReadableError: words behind the value change it, as in ``7 \text{ or less}``.

    >>> split_unit(r"5 \text{ meters}"), split_unit(r"\$18.90")
    (Split(core='5', unit='m', percent=False), Split(core='18.90', unit='dollar', percent=False))
    >>> split_unit(r"7 \text{ million km}^2"), split_unit(r"50\%")
    (Split(core='7 \\times 10^{6}', unit='km^2', percent=False), Split(core='50', unit='', percent=True))
    """
    found = Split(text)
    money = MONEY.match(text)
    if money is not None:
        found = Split(money["sign"] + text[money.end() :], NAMES[money["money"]])
    for _ in range(2):  # 3 million \%, 5 \text{ cm}^2 \text{ each}
        shorter = one_less(found)
        if shorter is None:
            break
        found = shorter
    return found


def one_less(found: Split) -> Split | None:
    """Return the value without the last thing behind it, None where there is none."""
    text = found.core
    if (match := PERCENT_BEHIND.search(text)) is not None and match.start():
        if found.percent:
            raise NotReadableError("two percent signs")
        return Split(text[: match.start()], found.unit, True)
    if (match := DEGREES.search(text)) is not None and match.start():
        return Split(text[: match.start()], SCALES[match["text"] or match["scale"]])
    if (match := ORDINAL.search(text)) is not None:
        return Split(text[: match.start()], found.unit, found.percent)
    if (match := FEET.search(text)) is not None:
        return Split(text[: match.start()], "ft" if match["marks"] == "'" else "in")
    if (match := FRACTION.search(text)) is not None:
        return with_phrase(found, match.start(), f"{match['top']}/{match['bottom']}")
    if (match := IN_TEXT.search(text)) is not None:
        return with_phrase(found, match.start(), match["unit"])
    match = WORDS.search(text)
    if match is not None and are_units(match["unit"], bool(match["gap"])):
        return with_phrase(found, match.start(), match["unit"])
    return None


def are_units(phrase: str, apart: bool) -> bool:
    r"""Return True where words without ``\text`` are units and no product of variables."""
    words = re.findall(rf"[a-zA-Z]+|{SIGNS}", phrase)
    if not apart:
        return len(words) == 1 and (words[0] in TIGHT or not words[0].isalpha())
    known = [w in NAMES or singular(w) in NAMES or is_modifier(w) for w in words]
    sure = [singular(w) in BARE or w in BARE or is_modifier(w) or not w.isalpha() for w in words]
    return all(known) and (any(sure) or "/" in phrase)


def is_modifier(word: str) -> bool:
    """Return True for million, percent, square and the like."""
    lower = singular(word.lower())
    multiplies = len(word) > 1 and (lower in POWERS_OF_TEN or lower == DOZEN)
    return multiplies or lower in PERCENT or lower in POWERS or lower == "per"


def with_phrase(found: Split, end: int, phrase: str) -> Split | None:
    r"""Return the value in front of ``end`` with the unit and the multipliers of a phrase."""
    core = found.core[:end].strip()
    words = re.sub(r"\\text\{|\}(?!\s*$)(?=[^}]*\\text|\s*[/*\\^])|\}$", " ", phrase)
    tokens = list(TOKEN.finditer(words.replace("{", "").replace("}", "")))
    names = [token["word"] for token in tokens if token["word"]]
    if not names or (len(names) == 1 and len(names[0]) == 1 and names[0] not in (*NAMES, "k")):
        return None  # a variable
    if len(names) > MANY_WORDS or any(name.lower() in RESERVED for name in names):
        raise NotReadableError(phrase)
    power, dozens, percent, unit = meaning(tokens)
    if power:
        core = (
            f"{core} \\times 10^{{{power}}}" if is_number(core) else f"({core}) \\times 10^{{{power}}}"
        )
    if dozens:
        core = f"({core}) \\cdot 12"
    return replace(found, core=core, unit=unit or found.unit, percent=found.percent or percent)


def is_number(text: str) -> bool:
    """Return True for plain digits with an optional sign and point."""
    return re.fullmatch(r"[-+]?\d+(?:\.\d+)?", text) is not None


def meaning(tokens: list[re.Match[str]]) -> tuple[int, bool, bool, str]:
    """Return the power of ten, whether a dozen is meant, whether percent is, and the unit's name."""
    power, dozens, percent = 0, False, False
    unit: Counter[str] = Counter()
    unknown: list[str] = []
    sign, raised, last = 1, 1, ""
    for token in tokens:
        word = token["word"]
        if token["power"]:
            if last:
                unit[last] *= int(re.sub(r"[^\d-]", "", token["power"]))
        elif token["over"] or (word and word.lower() == "per"):
            sign = -1
        elif word is None:
            continue
        elif word in POWERS_OF_TEN or (len(word) > 2 and singular(word.lower()) in POWERS_OF_TEN):
            power += POWERS_OF_TEN[word if word in POWERS_OF_TEN else singular(word.lower())]
        elif word.lower() in (DOZEN, DOZEN + "s"):
            dozens = True
        elif word.lower() in PERCENT:
            percent = True
        elif word.lower() in POWERS:
            raised = POWERS[word.lower()]
        elif (name := unit_name(word)) is not None:
            for part, times in COMPOSED.get(name, {name: 1}).items():
                unit[part] += sign * raised * times
            last, sign, raised = name, 1, 1
        else:
            unknown.append(singular(word.lower()))
    names = [name if times == 1 else f"{name}^{times}" for name, times in sorted(unit.items())]
    return power, dozens, percent, " ".join(names + unknown)


def unit_name(word: str) -> str | None:
    """Return the name of a unit that is known, however it is written."""
    for form in (word, word.lower(), singular(word), singular(word.lower())):
        if form in NAMES and (len(word) > 2 or form in (word, singular(word))):
            return NAMES[form]
    return None


def singular(word: str) -> str:
    """Return ``inch`` for ``inches`` and ``apple`` for ``apples``.

    >>> singular("inches"), singular("days"), singular("glass")
    ('inch', 'day', 'glass')
    """
    if word.endswith(("ches", "shes", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
