"""TRL's and verl's math rewards on the cases of benchmarks/verifier.py, in their own environment.

PYTHON benchmarks/verifier_peers.py cases.json out.json
"""

from __future__ import annotations

import json
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def trl_rewards(cases: list[list[str]]) -> list[float]:
    """TRL's accuracy_reward, from the main thread, the whole batch in one call."""
    from trl.rewards import accuracy_reward

    # TRL reads the gold with math-verify's search, which wants LaTeX marked as such.
    return accuracy_reward([[{"content": t}] for t, _ in cases], [f"${g}$" for _, g in cases])


def verl_rewards(cases: list[list[str]]) -> list[float]:
    """verl's math_verify reward: one call a case, enough threads to keep its pool of four busy."""
    from verl.utils.reward_score.math_verify import compute_score

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda case: compute_score(*case), cases))


def verl_default_rewards(cases: list[list[str]]) -> list[float]:
    """verl's default for MATH: normalised strings."""
    from verl.utils.reward_score.math_reward import compute_score

    return [compute_score(text, gold) for text, gold in cases]


def main() -> None:
    import importlib.metadata

    with open(sys.argv[1]) as file:
        cases = json.load(file)
    logging.disable(logging.CRITICAL)
    results = {}
    for name, package, rewards in (
        ("TRL accuracy_reward", "trl", trl_rewards),
        ("verl math_verify", "verl", verl_rewards),
        ("verl math_reward (strings)", "verl", verl_default_rewards),
    ):
        rewards(cases[:8])  # imports and process starts are not counted
        started = time.perf_counter()
        scores = rewards(cases)
        seconds = time.perf_counter() - started
        label = f"{name} {importlib.metadata.version(package)}"
        results[label] = {
            "seconds": seconds,
            "scores": [None if s is None else float(s) for s in scores],
        }
    with open(sys.argv[2], "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main()
