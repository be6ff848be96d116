r"""Unicode characters as the ASCII or LaTeX that they stand for: ``√2`` as ``\sqrt{2}``."""

from __future__ import annotations

import re
import unicodedata

NOT_ASCII = re.compile(r"[^\x00-\x7f]")
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\ufe58"
# Between two digits a dash is a range, which is no difference.
DASH = re.compile(rf"(?<!\d)[{DASHES}]|[{DASHES}](?!\d)")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+-=()")
SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ]+")
SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎]+")
ROOT = re.compile(
    r"(?P<sign>[√∛∜])\s*(?:\((?P<group>[^()]*)\)|\{(?P<braced>[^{}]*)\}|(?P<plain>\d+(?:\.\d+)?|[a-zA-Z]))?"
)
ROOTS = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}
SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
# Marks without a width or a meaning; the embedding and overriding ones change what is seen.
NOTHING = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufe0f\ufeff"
GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "ϵ": "epsilon",
    "ζ": "zeta",
    "η": "eta",
    "θ": "theta",
    "ι": "iota",
    "κ": "kappa",
    "λ": "lambda",
    "μ": "mu",
    "\u00b5": "mu",
    "ν": "nu",
    "ξ": "xi",
    "π": "pi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "υ": "upsilon",
    "φ": "phi",
    "ϕ": "phi",
    "χ": "chi",
    "ψ": "psi",
    "ω": "omega",
    "Γ": "Gamma",
    "Δ": "Delta",
    "Θ": "Theta",
    "Λ": "Lambda",
    "Ξ": "Xi",
    "Π": "Pi",
    "Σ": "Sigma",
    "Φ": "Phi",
    "Ψ": "Psi",
    "Ω": "Omega",
}
COMMANDS = {
    "×": "times",
    "✕": "times",
    "÷": "div",
    "·": "cdot",
    "⋅": "cdot",
    "∙": "cdot",
    "•": "cdot",
    "∞": "infty",
    "≤": "le",
    "⩽": "le",
    "≥": "ge",
    "⩾": "ge",
    "≠": "neq",
    "≈": "approx",
    "≃": "approx",
    "≅": "cong",
    "∼": "sim",
    "±": "pm",
    "∓": "mp",
    "∪": "cup",
    "∩": "cap",
    "∈": "in",
    "∉": "notin",
    "⊂": "subset",
    "⊆": "subseteq",
    "∅": "emptyset",
    "∖": "setminus",
    "∠": "angle",
    "→": "to",
    "…": "ldots",
    "⋯": "cdots",
    "⟨": "langle",
    "〈": "langle",
    "⟩": "rangle",
    "〉": "rangle",
    "⌊": "lfloor",
    "⌋": "rfloor",
    "⌈": "lceil",
    "⌉": "rceil",
}
PLAIN = {
    **dict.fromkeys(SPACES, " "),
    **dict.fromkeys(NOTHING, ""),
    **{sign: f"\\{name} " for sign, name in (GREEK | COMMANDS).items()},
    "\u2212": "-",
    "\ufe63": "-",
    "°": "^{\\circ}",
    "º": "^{\\circ}",
    "⁄": "/",
    "∕": "/",
    "∶": ":",
    "∣": "|",
    "。": ".",
    "、": ",",
    "′": "'",
    "″": "''",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "ℝ": "\\mathbb{R}",
    "ℤ": "\\mathbb{Z}",
    "ℕ": "\\mathbb{N}",
    "ℚ": "\\mathbb{Q}",
    "ℂ": "\\mathbb{C}",
}


def plain_characters(text: str) -> str:
    r"""Return ``text`` in ASCII wherever a character has one meaning; others stay.

    >>> plain_characters("x² – 1½")
    'x^{2} - 1\\frac{1}{2}'
    >>> plain_characters("(０,∞)"), plain_characters("30°")
    ('(0,\\infty )', '30^{\\circ}')
    """
    if text.isascii():
        return text
    text = ROOT.sub(plain_root, text)
    text = SUPERSCRIPT.sub(plain_superscript, text)
    text = SUBSCRIPT.sub(lambda run: f"_{{{run[0].translate(SUBSCRIPTS)}}}", text)
    text = NOT_ASCII.sub(lambda match: plain_character(match[0]), text)
    return DASH.sub("-", text)


def plain_root(match: re.Match[str]) -> str:
    r"""Return ``\sqrt{...}`` around what a root sign covers: a number, a letter or a group."""
    inner = next((g for g in (match["group"], match["braced"], match["plain"]) if g is not None), None)
    command = ROOTS[match["sign"]]
    return command if inner is None else f"{command}{{{inner}}}"


def plain_superscript(run: re.Match[str]) -> str:
    """Return ``^{2}`` for ``²``; a raised sign with no digit is a sign."""
    plain = run[0].translate(SUPERSCRIPTS)
    return plain if plain in "+-" else f"^{{{plain}}}"


def plain_character(character: str) -> str:
    """Return the plain form of one character, itself where it has none."""
    if character in PLAIN:
        return PLAIN[character]
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if unicodedata.category(character) == "No":
        return vulgar_fraction(character)
    return character


def vulgar_fraction(character: str) -> str:
    r"""Return ``\frac{1}{2}`` for ``½``; other signs that hold a number, such as ``⑤``, stay.

    >>> vulgar_fraction("¾")
    '\\frac{3}{4}'
    """
    top, slash, bottom = unicodedata.normalize("NFKC", character).partition("\u2044")
    return f"\\frac{{{top}}}{{{bottom}}}" if slash and top and bottom else character
