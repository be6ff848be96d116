"""A verification process: JSON jobs in, JSON verdicts out. It imports no torch."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import resource
import signal
import sys

MEMORY_LIMIT_BYTES = 2 * 2**30
PR_SET_PDEATHSIG = 1


def judge(answer: str, gold: str) -> str:
    """The outcome of math-verify for the contents of two boxes."""
    from math_verify import parse, verify

    gold_parsed = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not gold_parsed:
        return "bad_gold"
    parsed = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    if not parsed:
        return "unparsable"
    return "correct" if verify(gold_parsed, parsed, timeout_seconds=None) else "wrong"


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    with contextlib.suppress(OSError):  # Linux: end with the parent, even when it is killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.disable(logging.CRITICAL)
    sys.set_int_max_str_digits(100_000)
    out = sys.stdout
    sys.stdout = sys.stderr  # a library that prints must not break the protocol
    for line in sys.stdin:
        job = json.loads(line)
        try:
            outcome = judge(job["answer"], job["gold"])
        except Exception:
            outcome = "error"
        out.write(json.dumps({"outcome": outcome}) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
