"""Cases for benchmarks/verifier.py: a rollout's completions made from real gold answers."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

FILES = ("dapo_math_17k.jsonl", "math_train.jsonl")
PROSE = (
    "Let us set up the equation and solve it step by step. ",
    "First we note that $a^2 + b^2 = (a+b)^2 - 2ab$, so the sum is what we need. ",
    "Substituting back gives \\frac{3}{4} of the total, which is {not} the end. ",
    "Therefore the remaining cases are symmetric and need no new argument. ",
)
PATHOLOGICAL = (
    "\\boxed{9^{9^{9^9}}}",
    "\\boxed{(10^{10})!}",
    "\\boxed{" + "7" * 4000 + "}",
    "\\boxed{" + "(" * 12 + "1" + ")" * 12 + "}",
    "\\boxed{I am not sure, it may be 12 or 15, but the problem is unclear}",
    "\\boxed{\\frac{1}{",
    "\\boxed{\\text{none of these}}",
    "\\boxed{}",
)


def golds(folder: Path, count: int, seed: int = 0) -> list[str]:
    """``count`` gold answers, half of each file."""
    rng, found = random.Random(seed), list[str]()
    for name in FILES:
        lines = (folder / "math_train" / name).read_text(encoding="utf-8").split("\n")
        answers = [json.loads(line)["answer"] for line in lines if line]
        found += rng.sample(answers, count // len(FILES))
    return found


def equal_form(gold: str, rng: random.Random) -> str:
    """The gold as another model would write it."""
    forms = [gold, gold, gold, gold.replace("\\frac", "\\dfrac"), f"${gold}$", f" {gold} "]
    if re.fullmatch(r"-?\d{4,}", gold):
        forms.append(f"{int(gold):,}")
    if re.fullmatch(r"-?\d{1,9}", gold):
        forms += [f"{gold}.0", f"x = {gold}"]
    return rng.choice(forms)


def wrong_form(gold: str, rng: random.Random) -> str:
    """An answer of the same shape that is off: one digit changed, else something added."""
    places = [i for i, c in enumerate(gold) if c.isdigit()]
    if not places:
        return gold + "+1"
    i = rng.choice(places)
    return gold[:i] + str((int(gold[i]) + rng.randint(1, 9)) % 10) + gold[i + 1 :]


def rollout(
    folder: Path, problems: int = 512, samples: int = 16, seed: int = 0
) -> list[tuple[str, str]]:
    """(completion, gold): about half right, a tenth without a box, eight pathological ones."""
    rng, cases = random.Random(seed), list[tuple[str, str]]()
    for gold in golds(folder, problems, seed):
        share = rng.random()
        usual = [wrong_form(gold, rng) for _ in range(3)]
        for _ in range(samples):
            answer = equal_form(gold, rng) if rng.random() < share else rng.choice(usual)
            text = "".join(rng.choice(PROSE) for _ in range(rng.randint(4, 16)))
            text += "The answer is " + (f"{answer}." if rng.random() < 0.1 else f"\\boxed{{{answer}}}.")
            cases.append((text, gold))
    for i, answer in enumerate(PATHOLOGICAL):
        place = (i * 997 + 131) % len(cases)
        cases[place] = ("It follows that " + answer, cases[place][1])
    return cases


def symbolic(folder: Path, count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Distinct cases without any plain number: every one needs math-verify."""
    rng, cases, seen = random.Random(seed), list[tuple[str, str]](), set[tuple[str, str]]()
    lines = (folder / "math_train" / FILES[1]).read_text(encoding="utf-8").split("\n")
    answers = [json.loads(line)["answer"] for line in lines if line]
    answers = [a for a in answers if not re.fullmatch(r"-?[\d,./]+|-?\\[dt]?frac\{\d+\}\{\d+\}", a)]
    rng.shuffle(answers)
    for gold in dict.fromkeys(answers):
        for answer in (gold.replace(" ", "") + "\\,", wrong_form(gold, rng), wrong_form(gold, rng)):
            if (answer, gold) not in seen:
                seen.add((answer, gold))
                cases.append((f"\\boxed{{{answer}}}", gold))
        if len(cases) >= count:
            break
    return cases[:count]
