"""Generated answers that a policy might try for a reward: they show the gold, and none is it."""

from __future__ import annotations

import random
from collections.abc import Iterator

# {n} is the gold, a whole number; {m} another one.
AROUND = (
    r"> {n}|\neq {n}|\geq {n}|\leq {n}|\not= {n}|< {n}|\gg {n}|\propto {n}|\text{not }{n}|\neg {n}|"
    r"\text{at most }{n}|\text{less than }{n}|{n}\text{ or more}|{n}\text{ or }{m}|{n} or {m}|"
    r"{n}, {m}|{n}\text{ and }{m}|{n}\text{ to }{m}|{n}-{m}|{n}/{m}|{n};{m}|{n}:{m}0|\{{n},{m}\}|"
    r"({n},{m})|[{n},{m}]|{n} \text{ million}|{n}\text{k}|{n} \text{ hundred}|{n} \text{ tenths}|"
    r"{n} \text{ dozen}|{n} \times 10|{n}e3|{n} \times 10^{3}|{n}\sqrt{2}|{n}x|{n}t|{n}s|{n}h|{n}i|"
    r"{n}\pi|{n}e|{n}!!|-{n}|\pm {n}|{n}\pm 1|{n}+1|{n}+C|{n}+\epsilon|{n}.5|{n}.0000001|{n} 1/2|"
    r"{n}\frac{1}{2}|{n} {m}|{n}({m})|({n})({m})|{n},000|{n}\,000|{n} 000|{n}, \ldots|"
    r"1, 2, \ldots, {n}|\ldots, {n}|{n}\ldots|{n} \to {m}|{n} \mid n|{n} = {m}|{m} = {n}|{m}+1={n}|"
    r"{n} \approx {m}|{n}_x|{n}^2|{n}^{n}|2^{{n}}|\frac{{n}}{0}|\frac{{n}}{}|\frac{{n}}{x}|"
    r"\sqrt{{n}}|\log {n}|\sin {n}|f({n})|\overline{{n}}|\hat{{n}}|\vec{{n}}|\cancel{{m}}{n}|{n}?|"
    r"{n}*|{n}+|{n}-|{n}/|{n}^|{n}\\{m}|{n}\quad {m}|@{n}|({n}|{n})|]{n}|[{n},|x>{n}|x \ne {n}|"
    r"{n} \in S|\emptyset \ne {n}|{n} \text{ if } n>2|\text{none, since } {n} > 3|"
    r"\text{I guess }{n}|\text{The answer is not }{n}|The answer is {n} or {m}|"
    r"{n}\text{ apples and }{m}\text{ pears}|{n} (or {m})|{n} \text{ (or {m})}|x={n}, y={m}|"
    r"x={n}\text{ or }x={m}|{n}\%\%\%|0x{n}|{n}\text{ squared}|{n} minus 1|{n}\text{ minus }1|"
    r"\lim_{x \to {n}} x^2|\int_0^{{n}} dx + 1|\begin{pmatrix}{n}\\{m}\end{pmatrix}|"
    r"\begin{cases}{n}\\{m}\end{cases}|{n}&{m}|{n}\text{ half}|half of {n}|{n}\text{ over }{m}|"
    r"NaN {n}|{n} \bmod 2"
)
TEMPLATES = [*AROUND.split("|"), "{n}\u2013{m}", "{n}\u00bd", "{n}\u00b2"]
LENGTHS = (4301, 5000, 9999)


def answers(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Return ``count`` different pairs of an answer and the gold that it is not."""
    rng = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    while len(seen) < count:
        gold, other = rng.sample(range(3, 97), 2)
        pair = made(rng, str(gold), str(other))
        if pair not in seen:
            seen.add(pair)
            yield pair


def made(rng: random.Random, gold: str, other: str) -> tuple[str, str]:
    """Return one answer and its gold."""
    kind = rng.random()
    if kind < 0.8:
        text = rng.choice(TEMPLATES).replace("{n}", gold).replace("{m}", other)
    elif kind < 0.9:
        text = degenerate(rng, gold)
    else:
        # Two fragments of templates, cut anywhere, one in the other.
        first, second = (rng.choice(TEMPLATES).replace("{m}", other) for _ in range(2))
        text = (first[: rng.randint(0, len(first))] + second).replace("{n}", other)
    return text, gold


def degenerate(rng: random.Random, gold: str) -> str:
    """Return what a model writes in a loop: digits, exponents, brackets, signs without an end."""
    length = rng.choice(LENGTHS) - rng.randint(0, 99)
    deep = rng.randint(100, 400)
    return rng.choice(
        (
            f"1e{'9' * length}",
            f"1e-{'9' * length}",
            f"{gold}e{'9' * length}",
            f"0.{'3' * length}",
            f"{'9' * length}/{gold}",
            f"{gold}_{'2' * length}",
            f"{gold}{'!' * deep}",
            "(" * deep + gold + ")" * (deep - 1),
            r"\frac{1}{" * deep + gold + "}" * deep,
            f"{gold}^{{" * deep + gold + "}" * deep,
            f"{gold},{' ' * length}{gold}1",
            r"\text{ or }".join([gold] * 9 + [gold + "1"]),
            gold + "\ud800" * deep,
            gold + "\u0301" * deep,
            "\x00" * deep + gold + "1",
        )
    )
