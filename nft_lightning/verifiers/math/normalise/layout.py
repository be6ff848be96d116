r"""LaTeX that only says how an answer looks: spaces, sizes, fonts, ``$`` and a sentence's full stop."""

from __future__ import annotations

import re

from nft_lightning.verifiers.math.normalise.brackets import without_double_parentheses

SIZES = re.compile(
    r"\\(?:left|right|middle)\s*\.|"
    r"\\(?:left|right|middle|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|displaystyle|textstyle"
    r"|limits|nolimits|boldmath)(?![a-zA-Z])|\\!"
)
SPACES = re.compile(
    r"\\(?:quad|qquad|enspace|thinspace|hfill)(?![a-zA-Z])|(?<!\\)\\[,;:> ]|(?<!\\)~|[\n\t\r]"
)
FONTS = re.compile(
    r"\\(?:text(?:normal|bf|it|rm|sf|tt|up)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|emph|bm|boldsymbol)"
    r"\s*\{"
)
OLD_FONT = re.compile(r"\{\s*\\(?:rm|bf|it|sf)\s+([^{}]*)\}")
COLOURS = re.compile(r"\\underline(?=\s*\{)|\\(?:textcolor|colorbox)\s*\{[^{}]*\}|\\color\s*\{[^{}]*\}")
FRACTIONS = re.compile(r"\\(?:[dtcs]|nice|x)frac(?![a-zA-Z])")
NAMES = {
    "leq": "\\le ",
    "leqslant": "\\le ",
    "geq": "\\ge ",
    "geqslant": "\\ge ",
    "lt": "<",
    "gt": ">",
    "ne": "\\neq ",
    "colon": ":",
    "dots": "\\ldots ",
    "dotsc": "\\ldots ",
    "dotsb": "\\ldots ",
    "cdots": "\\ldots ",
    "hdots": "\\ldots ",
    "varnothing": "\\emptyset ",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "degree": "^{\\circ}",
    "lvert": "|",
    "rvert": "|",
}
NAME = re.compile(rf"\\(?:{'|'.join(sorted(NAMES, key=len, reverse=True))})(?![a-zA-Z])\s*")
NOT_EQUAL = re.compile(r"\\not\s*=|!=|<>")
POINTS = re.compile(r"\.{3,}")
ANGLES = re.compile(r"\\langle(?P<inner>.*?)\\rangle", re.DOTALL)
RUN = re.compile(r"\s{2,}")
FRENCH = re.compile(
    r"(?P<before>^|\\cup\s*|\\in\s*|=\s*)(?P<opens>[\[\]])(?P<inner>[^,\[\]()]+,[^,\[\]()]+)(?P<closes>[\[\]])"
)
STARS = re.compile(r"(\*\*|`)(.+)\1", re.DOTALL)
ROOT = re.compile(r"\\?sqrt\s*\(([^()]*)\)")
NUMBER_INSIDE = re.compile(r"\\text\{\s*([-+]?[\d.,]*\d[\d.,]*(?:[eE][-+]?\d+)?\.?)\s*\}")
EMPTY_TEXT = re.compile(r"\\text\{[\s.,;:]*\}")
TAIL = " .,;:"
POWER = re.compile(r"\*\*")
PRIMES = re.compile(r"(?<![a-zA-Z\\])([a-zA-Z]|\\[a-zA-Z]+)\s*('+)")


def plain_layout(text: str) -> str:
    r"""Return ``text`` without what only shapes it, with one command for each thing.

    >>> plain_layout(r"$\displaystyle \left(\dfrac{1}{2},\,\mathbf{5}\right)$.")
    '(\\frac{1}{2}, 5)'
    >>> plain_layout(r"]0,1[ ")
    '(0,1)'
    """
    text = POINTS.sub(r"\\ldots ", text.strip())
    while (starred := STARS.fullmatch(text)) is not None:
        text = starred[2].strip()
    text = POWER.sub("^", text)
    text = COLOURS.sub("", SIZES.sub("", text))
    text = RUN.sub(" ", SPACES.sub(" ", text))
    text = NOT_EQUAL.sub(r"\\neq ", NAME.sub(named, text))
    text = FRACTIONS.sub(r"\\frac", text)
    text = FONTS.sub(r"\\text{", OLD_FONT.sub(r"\\text{\1}", text))
    text = NUMBER_INSIDE.sub(r"\1", EMPTY_TEXT.sub(" ", text))
    text = ROOT.sub(r"\\sqrt{\1}", text)
    text = PRIMES.sub(prime, without_dollars(text))
    text = ANGLES.sub(tuple_of, text)
    text = without_double_parentheses(without_tail(text))
    return FRENCH.sub(usual_interval, text)


def named(match: re.Match[str]) -> str:
    """Return the one name that a command with several goes by."""
    return NAMES[match[0].strip()[1:]]


def prime(match: re.Match[str]) -> str:
    r"""Return ``f^{\prime}`` for ``f'``: a derivative is another function."""
    return match[1] + "^{" + "\\prime" * len(match[2]) + "}"


def without_dollars(text: str) -> str:
    r"""Return ``text`` without the ``$`` of mathematics; ``\$`` and a lone ``$`` before a digit stay.

    >>> without_dollars("$5$"), without_dollars("$18"), without_dollars(r"\$18")
    ('5', '\\$18', '\\$18')
    """
    if "$" not in text:
        return text
    if re.match(r"\s*-?\$\s*\d", text) and text.count("$") == 1:
        return text.replace("$", "\\$")
    return re.sub(r"(?<!\\)\$", "", text)


def without_tail(text: str) -> str:
    r"""Return ``text`` without the punctuation and line breaks after it.

    >>> without_tail("7."), without_tail(r"7 \\")
    ('7', '7')
    """
    while True:
        shorter = text.strip()
        if shorter.endswith("\\\\"):
            shorter = shorter[:-2]
        elif not shorter.endswith(("\\.", "\\,", "\\;", "\\:")):
            shorter = shorter.rstrip(TAIL)
        if shorter == text:
            return text
        text = shorter


def tuple_of(match: re.Match[str]) -> str:
    r"""Return ``(1,2)`` for ``\langle 1,2\rangle``; what holds no comma stays."""
    inner = match["inner"]
    return f"({inner})" if "," in inner and "\\langle" not in inner else match[0]


def usual_interval(match: re.Match[str]) -> str:
    """Return ``(0,1)`` for ``]0,1[``: a bracket that is turned away leaves the end out."""
    opens = "(" if match["opens"] == "]" else "["
    closes = ")" if match["closes"] == "[" else "]"
    return f"{match['before']}{opens}{match['inner']}{closes}"
