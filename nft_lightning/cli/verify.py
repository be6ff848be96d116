"""nft-verify: score a file of predictions, or check the golds of a data set."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from nft_lightning.errors import UserError
from nft_lightning.problems.values import NotTextError, number_text
from nft_lightning.verdict import OUTCOMES
from nft_lightning.verifiers.math.verifier import MathVerifier

BLOCK_LINES = 4096
EXIT_FOUND, EXIT_BAD_INPUT, EXIT_PIPE = 1, 2, 141
SHOWN_CHARACTERS = 120
HELP = r"""Score predictions against golds: one JSON object per line in, the same with its verdict out.

  nft-verify cases.jsonl > scored.jsonl        "pred" is a completion, "gold" the answer
  some-command | nft-verify - | jq .correct    from standard input
  nft-verify --check-golds problems.jsonl      can every "gold" or "answer" be read?
"""
EPILOG = r"""Each output line has the input's keys and
  verdict    correct, wrong, unparsable (no answer that can be read), timeout, bad_gold (the gold
             cannot be read) or error (the verification failed; says nothing about the answer)
  correct    true only for the verdict "correct"
  extracted  the answer that was found, or null
  seconds    wall time of the verification

A line that is not such an object is reported by its number on standard error and left out; the rest
continues. Exit code: 0, or 1 where a line was left out (with --check-golds: where a gold cannot be
read), 2 for bad arguments. docs/verifier.md has the rules.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of nft-verify."""
    made = argparse.ArgumentParser(
        "nft-verify",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("file", metavar="FILE", help="JSON Lines; - reads standard input")
    made.add_argument(
        "--extract",
        choices=("boxed", "official", "any"),
        default="boxed",
        help="boxed: the last \\boxed{} of pred (default); official: the same, within the last 100 "
        "characters; any: math-verify's own search over the whole pred and gold",
    )
    made.add_argument(
        "--timeout-seconds",
        type=float,
        default=3.0,
        metavar="S",
        help="deadline of a case (default 3)",
    )
    made.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default 2)")
    made.add_argument(
        "--check-golds", action="store_true", help='list golds ("gold" or "answer") that cannot be read'
    )
    return made


@dataclass
class Reader:
    """Objects of a JSON Lines file by line number; what is malformed is reported and counted."""

    stream: BinaryIO
    malformed: int = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(self.stream, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                self.report(number, f"is not JSON ({str(error)[:SHOWN_CHARACTERS]})")
                continue
            if isinstance(record, dict):
                yield number, record
            else:
                self.report(number, "is not an object")

    def text(self, number: int, record: dict[str, Any], *keys: str) -> str | None:
        """Return the first of ``keys`` that is there, as text; None, and a report, where none will
        do.
        """
        key = next((k for k in keys if k in record), None)
        if key is None:
            self.report(number, f"lacks {' or '.join(keys)}")
            return None
        value = record[key]
        if isinstance(value, str):
            return value
        try:
            return number_text(value)
        except NotTextError as error:
            self.report(number, f"has a {key} that {error}")
        return None

    def report(self, number: int, problem: str) -> None:
        """Say it and count it."""
        self.malformed += 1
        sys.stderr.write(f"line {number} {problem}\n")


def score(reader: Reader, verifier: MathVerifier) -> int:
    """Write every case with its verdict; returns the exit code."""
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    cases = iter(reader)
    while block := list(islice(cases, BLOCK_LINES)):
        good = []
        for number, record in block:
            pred = reader.text(number, record, "pred")
            gold = reader.text(number, record, "gold") if pred is not None else None
            if pred is not None and gold is not None:
                good.append((record, pred, gold))
        verdicts = verifier.verify([p for _, p, _ in good], [g for _, _, g in good])
        for (record, _, _), verdict in zip(good, verdicts, strict=True):
            counts[verdict.outcome] += 1
            record["verdict"], record["correct"] = verdict.outcome, verdict.correct
            record["extracted"], record["seconds"] = verdict.extracted, round(verdict.seconds, 6)
            sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()
    total, seconds = counts.total(), time.perf_counter() - started
    shares = ", ".join(f"{counts[o]} {o}" for o in OUTCOMES if counts[o] or o in OUTCOMES[:2])
    accuracy = f" ({counts['correct'] / total:.1%} correct)" if total else ""
    sys.stderr.write(f"{total} cases in {seconds:.1f} s: {shares}{accuracy}{left_out(reader)}\n")
    return EXIT_FOUND if reader.malformed else 0


def check_golds(reader: Reader, verifier: MathVerifier) -> int:
    """List the golds that cannot be read; returns the exit code."""
    total = bad = 0
    records = iter(reader)
    while block := list(islice(records, BLOCK_LINES)):
        texts = [(number, reader.text(number, record, "gold", "answer")) for number, record in block]
        golds = [(number, text) for number, text in texts if text is not None]
        total += len(golds)
        outcomes = verifier.check_golds([text for _, text in golds])
        for (number, text), outcome in zip(golds, outcomes, strict=True):
            if outcome != "correct":
                bad += 1
                cut = text[:SHOWN_CHARACTERS] + "..." if len(text) > SHOWN_CHARACTERS else text
                sys.stdout.write(f"line {number}: {json.dumps(cut)} {outcome}\n")
        sys.stdout.flush()
    sys.stderr.write(f"{total} golds: {bad} cannot be read{left_out(reader)}\n")
    return EXIT_FOUND if bad or reader.malformed else 0


def left_out(reader: Reader) -> str:
    """Return how many lines could not be read, as the end of a sentence."""
    return f"; {reader.malformed} malformed lines left out" if reader.malformed else ""


def run(given: argparse.Namespace) -> int:
    """Return the command, arguments parsed. Raises UserError for what cannot work."""
    verifier = MathVerifier(
        workers=given.workers,
        timeout_seconds=given.timeout_seconds,
        extract=given.extract,
        gold="text" if given.extract == "any" else "answer",
    )
    with ExitStack() as stack:
        stack.callback(verifier.close)
        if given.file == "-":
            stream = sys.stdin.buffer
        else:
            try:
                stream = stack.enter_context(open(given.file, "rb"))
            except OSError as error:
                reason = f"cannot be read ({error.strerror})"
                raise UserError("FILE", given.file, reason, "give a JSON Lines file, or -") from error
        return (check_golds if given.check_golds else score)(Reader(stream), verifier)


def main() -> None:
    """The console command."""
    try:
        code = run(parser().parse_args())
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        code = EXIT_BAD_INPUT
    except BrokenPipeError:  # the reader, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_PIPE
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
