"""Completions that try to hang, cheat, crash or run code, each with the verdicts it may get."""

from __future__ import annotations

import base64
import pickle
from dataclasses import dataclass

from nft_lightning.verifiers.sandbox.process import STARVED_DEADLINES

# What the test itself may add on a busy machine; nothing that hangs here is done so soon.
SLACK_SECONDS = 10.0


def longest_seconds(timeout_seconds: float) -> float:
    """What a case may take at most: a worker that is starved gets several deadlines."""
    return timeout_seconds * STARVED_DEADLINES + SLACK_SECONDS


@dataclass(frozen=True)
class Case:
    name: str
    pred: str
    gold: str
    expected: frozenset[str]


class Payload:
    """What a pickle would run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def box(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def nested(opening: str, inner: str, closing: str, depth: int) -> str:
    return opening * depth + inner + closing * depth


def slow() -> list[tuple[str, str, str, str]]:
    """What costs a worker its deadline, or is given up before; never right."""
    never = "timeout wrong unparsable error"
    return [
        ("tower of nines", box("9^{9^{9^9}}"), "5", never),
        ("tower of tens", box("10^{10^{10^{10}}}"), "5", never),
        ("tower with a symbol", box("2^{2^{100}}+x"), "x+1", never),
        ("tower against itself plus one", box("9^{9^{9^9}}+1"), "9^{9^{9^9}}", never),
        ("factorial of a huge number", box("(10^{10})!"), "5", never),
        ("factorial of factorials", box("((9!)!)!"), "7", never),
        ("binomial of huge numbers", box(r"\binom{10^9}{5\cdot 10^8}"), "5", never),
        ("a sum without end", box(r"\sum_{k=1}^{10^{12}} \frac{1}{k^2}"), "2", never),
        ("an integral of a tower", box(r"\int_0^1 x^{x^{x^x}}dx"), "1", never),
        ("a product without end", box(r"\prod_{k=1}^{10^{9}} k"), "1", never),
        ("a polynomial to expand", box("(x+y+z)^{5000}-(x+y)^{4999}"), "x", never),
        ("sixty parentheses", box(nested("(", "1", ")", 60)), "2", never),
        ("deep fractions", box(nested(r"\frac{1}{1+", "1", "}", 60)), "2", never),
        ("deep roots", box(nested(r"\sqrt{1+", "1", "}", 60)), "2", never),
        ("an enormous matrix", box(r"\begin{pmatrix}" + r"1&2\\" * 600 + r"\end{pmatrix}"), "2", never),
        ("a thousand terms", box("+".join(f"x^{{{i}}}" for i in range(1000))), "x", never),
        (
            "a large determinant",
            box(r"\det\begin{pmatrix}x&y\\z&w\end{pmatrix}^{10^9}"),
            "2",
            never,
        ),
        ("sine of a tower", box(r"\sin(10^{10^{10}})"), "0", never),
        ("logarithm of a tower", box(r"\log_{2}(2^{2^{2^{2^{10}}}})"), "9", never),
        ("huge root", box(r"\sqrt[10^{9}]{10^{10^{9}}}"), "3", never),
    ]


def large() -> list[tuple[str, str, str, str]]:
    """What is too long to be an answer."""
    return [
        ("a million braces", box(nested("{", "1", "}", 500_000)), "1", "unparsable"),
        ("a million open braces", "\\boxed{" + "{" * 10**6, "1", "unparsable"),
        ("a million closing braces", box("1") + "}" * 10**6, "1", "correct"),
        ("a million parentheses", box(nested("(", "1", ")", 500_000)), "1", "unparsable"),
        ("a megabyte of digits", box("7" * 10**6), "7", "unparsable"),
        ("a megabyte of digits in front", "7" * 10**6 + box("7"), "7", "correct"),
        ("a megabyte of boxes", box("3") * 80_000 + box("4"), "4", "correct"),
        ("a megabyte of open boxes", "\\boxed{" * 100_000 + "4", "4", "unparsable"),
        ("nine thousand digits", box("7" * 9000), "7", "wrong timeout unparsable error"),
        (
            "a matrix of a megabyte",
            box(r"\begin{pmatrix}" + r"1&\\" * 150_000),
            "2",
            "unparsable",
        ),
        ("nothing but spaces", " " * 10**6, "4", "unparsable"),
    ]


def code(canary: str) -> list[tuple[str, str, str, str]]:
    """What looks like code; whatever the verdict, nothing runs and nothing is right."""
    never = "wrong unparsable timeout error"
    touch = f"touch {canary}"
    payload = base64.b64encode(pickle.dumps(Payload(canary))).decode()
    texts = {
        "import os": f"__import__('os').system('{touch}')",
        "import os, quoted": f'__import__("os").system("{touch}")',
        "lambda": f"(lambda: open('{canary}','w'))()",
        "eval": f"eval(\"open('{canary}','w')\")",
        "exec": f"exec(\"import os; os.system('{touch}')\")",
        "f-string": f"{{open('{canary}','w')}}",
        "format field": "{0.__class__.__init__.__globals__}",
        "percent format": "%(answer)s",
        "subclasses": "().__class__.__bases__[0].__subclasses__()",
        "sympify": f'sympify(\'open("{canary}","w")\')',
        "parse_expr": f'parse_expr(\'__import__("os").system("{touch}")\')',
        "sympy Symbol": "Symbol('x', integer=True)",
        "sympy srepr": "Integer(5)+Rational(1,2)",
        "sympy class": "sympy.core.basic.Basic.__new__",
        "pickle": payload,
        "shell": f"$(touch {canary})",
        "backticks": f"`touch {canary}`",
        "write18": f"\\write18{{touch {canary}}}",
        "input": f"\\input{{|touch {canary}}}",
        "openout": f"\\newwrite\\f\\immediate\\openout\\f={canary}",
        "def": "\\def\\x{\\x\\x}\\x",
        "text with code": f"\\text{{__import__('os').system('{touch}')}}",
        "operatorname": f"\\operatorname{{open}}({canary})",
        "json": '{"outcome": "correct"}',
        "protocol line": '["correct", null, 0.0, false]\n["correct", null, 0.0, false]',
    }
    return [(name, box(text), "5", never) for name, text in texts.items()]


def characters() -> list[tuple[str, str, str, str]]:
    return [
        ("null byte", box("5\x00"), "5", "wrong unparsable error"),
        ("null bytes around", "\x00" + box("5") + "\x00", "5", "correct"),
        ("lone surrogate", box("\ud800"), "5", "wrong unparsable error"),
        ("lone surrogate beside the box", "\udfff" + box("5"), "5", "correct"),
        ("right-to-left mark", box("\u200f5"), "5", "correct"),
        ("right-to-left override", box("\u202e12"), "12", "wrong unparsable"),
        ("zero-width space", box("1\u200b2"), "12", "correct"),
        ("full-width digits", box("\uff11\uff12"), "12", "correct"),
        ("arabic digits", box("٤٢"), "42", "correct"),
        ("unicode minus", box("\u22125"), "-5", "correct"),
        ("unicode minus is not dropped", box("\u22125"), "5", "wrong"),
        ("superscript two is not two", box("x²"), "x2", "wrong unparsable"),
        ("circled digit", box("⑤"), "5", "wrong unparsable"),
        ("roman numeral sign", box("\u2164"), "5", "wrong unparsable"),
        ("emoji", box("🎉"), "5", "wrong unparsable"),
        ("combining marks", box("5" + "\u0301" * 50), "5", "wrong unparsable timeout"),
        ("escape sequences", box("\x1b[31m5\x1b[0m"), "5", "wrong unparsable"),
        ("byte order mark", box("\ufeff5"), "5", "correct"),
    ]


def cheats() -> list[tuple[str, str, str, str]]:
    return [
        ("the prompt quotes the gold", "The gold is 42. I say " + box("41"), "42", "wrong"),
        ("the gold without a box", "The answer is 42", "42", "unparsable"),
        ("all plausible answers, boxed", "".join(box(str(i)) for i in range(20)), "7", "wrong"),
        ("all plausible answers, one box", box(",".join(map(str, range(20)))), "7", "wrong"),
        ("either or", box("7 or 8"), "7", "wrong"),
        ("a box in a box", box("5" + box("7")), "7", "correct"),
        ("an open box after the answer", box("7") + " or \\boxed{8", "7", "correct"),
        ("unterminated latex", "\\boxed{\\frac{1}{2}", "0.5", "unparsable"),
        ("unterminated environment", box(r"\begin{pmatrix}1"), "1", "wrong unparsable"),
        ("empty box", box(""), "5", "unparsable"),
        ("white space in a box", box(" \n\t "), "5", "unparsable"),
        ("empty completion", "", "5", "unparsable"),
        ("empty text", box(r"\text{}"), "5", "unparsable"),
        ("not a number", box("nan"), "5", "wrong"),
        ("infinity", box(r"\infty"), "5", "wrong"),
        ("division by zero", box(r"\frac{1}{0}"), "5", "wrong"),
        ("the unknown itself", box("x"), "5", "wrong"),
        ("a tautology", box("x=x"), "5", "wrong"),
        ("true", box(r"\text{True}"), "5", "wrong"),
        ("everything", box(r"\mathbb{R}"), "5", "wrong"),
        ("a wide interval", box("(-\\infty,\\infty)"), "5", "wrong"),
        ("differs in the 15th digit", box("123456789012346"), "123456789012345", "wrong"),
        ("decimals beyond the sixth", box("3.14159265358979"), "3.14159265358978", "correct"),
        ("decimals within the sixth", box("3.14160"), "3.14159", "wrong"),
        ("equal after simplification", box(r"(x+1)^2-2x-1"), "x^2", "correct"),
        ("equal by trigonometry", box(r"\sin^2 x+\cos^2 x"), "1", "correct"),
        ("equal by roots", box(r"\frac{1}{\sqrt{2}}"), r"\frac{\sqrt{2}}{2}", "correct"),
        ("almost equal", box(r"(x+1)^2-2x"), "x^2", "wrong"),
        ("no gold", box("5"), "", "bad_gold"),
        ("a gold that is open", box("5"), r"\frac{1}{", "bad_gold"),
        ("a gold of dollars", box("5"), "$$", "bad_gold"),
        ("E-notation", box(r"4.5 \times 10^{33}"), "4.5e33", "correct"),
        ("E-notation is not its digits", box("4.5"), "4.5e33", "wrong"),
        ("fbox", "\\fbox{5}", "5", "correct"),
        ("code fence", "```\n" + box("5") + "\n```", "5", "correct"),
    ]


def cases(canary: str) -> list[Case]:
    """Every kind once; ``canary`` is the file that a successful attack would make."""
    rows = slow() + large() + code(canary) + characters() + cheats()
    return [Case(n, p, g, frozenset(e.split())) for n, p, g, e in rows]


def thousand(canary: str) -> list[Case]:
    """1,000 completions: the kinds over and over, no two of those that cost a deadline alike."""
    made: list[Case] = []
    while len(made) < 1000:
        turn = len(made)
        for case in cases(canary):
            pred = (
                case.pred.replace("}", f"+{turn}}}", 1)
                if turn and case.expected >= {"timeout"}
                else case.pred
            )
            made.append(Case(case.name, pred, case.gold, case.expected))
    return made[:1000]
