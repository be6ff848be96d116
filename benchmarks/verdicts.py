"""How often golds written otherwise are right, and golds made wrong are right: ours and math-verify.

    python benchmarks/verdicts.py --out benchmarks/results/verdicts --data FOLDER

``--data`` is a folder with math_eval/*.jsonl ("answer" on each line). The rewritings are those of
tests/verifiers/rewritten.py. math-verify gets the same boxes, with E-notation as a power of ten: it
would read the E as Euler's number. Writes results.json and results.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from nft_lightning.verifiers.math.verifier import MathVerifier  # noqa: E402
from tests.verifiers.rewritten import EQUAL, WRONG, rewritten  # noqa: E402

E_NOTATION = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([+-]?\d+)")
Rows = list[tuple[str, str, str]]


def golds(folder: Path) -> list[str]:
    """The different golds of all evaluation sets."""
    found = []
    for path in sorted((folder / "math_eval").glob("*.jsonl")):
        with open(path, encoding="utf-8") as lines:
            found += [json.loads(line)["answer"] for line in lines]
    return list(dict.fromkeys(found))


def ours(rows: Rows) -> list[bool]:
    """Whether each is called right by the verifier."""
    verifier = MathVerifier(workers=2, timeout_seconds=10)
    found = verifier.verify(
        [f"\\boxed{{{answer}}}" for _, answer, _ in rows], [gold for *_, gold in rows]
    )
    verifier.close()
    return [verdict.correct for verdict in found]


def math_verifys(rows: Rows) -> list[bool]:
    """Whether each is called right by math-verify."""
    from math_verify import parse, verify

    def read(text: str) -> list[object]:
        match = E_NOTATION.fullmatch(text.strip())
        plain = f"{match[1]} \\times 10^{{{int(match[2])}}}" if match else text
        return parse(f"\\boxed{{{plain}}}")

    return [bool(verify(read(gold), read(answer))) for _, answer, gold in rows]


def table(results: dict[str, dict[str, dict[str, int]]], count: int) -> str:
    """The figures as Markdown."""
    lines = [f"The {count:,} different golds of the evaluation sets, rewritten."]
    for name, rows in results.items():
        total = Counter[str]()
        lines += [
            "",
            f"| {name} | cases | ours calls right | math-verify calls right |",
            "|---|---|---|---|",
        ]
        for kind, row in rows.items():
            total.update(row)
            lines.append(f"| {kind} | {row['cases']:,} | {row['ours']:,} | {row['math_verify']:,} |")
        shares = [
            f"{total[side]:,} ({total[side] / total['cases']:.1%})" for side in ("ours", "math_verify")
        ]
        lines.append(f"| all | {total['cases']:,} | {' | '.join(shares)} |")
    version = importlib.metadata.version("math-verify")
    return "\n".join(lines) + f"\n\nmath-verify {version}. Made by `python benchmarks/verdicts.py`.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    given.out.mkdir(parents=True, exist_ok=True)
    every = golds(given.data)
    results: dict[str, dict[str, dict[str, int]]] = {}
    for name, kinds in (("written otherwise", EQUAL), ("made wrong", WRONG)):
        rows = rewritten(every, kinds)
        found = results.setdefault(name, {})
        for row, mine, his in zip(rows, ours(rows), math_verifys(rows), strict=True):
            counts = found.setdefault(row[0], {"cases": 0, "ours": 0, "math_verify": 0})
            counts["cases"] += 1
            counts["ours"] += mine
            counts["math_verify"] += his
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = table(results, len(every))
    (given.out / "results.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
