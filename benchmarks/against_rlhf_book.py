"""The whole loop against the policy-gradient code of the RLHF Book, on a task of reasoning-gym.

    git clone https://github.com/natolambert/rlhf-book BOOK
    python3 -m venv PEERS
    PEERS/bin/pip install -c constraints.txt torch transformers reasoning-gym pydantic tensordict \\
        rich wandb
    python benchmarks/against_rlhf_book.py --python PEERS/bin/python --code BOOK/code \\
        --out benchmarks/results/against_rlhf_book

Both train the embedded policy with GRPO on the same sums of reasoning-gym's ``chain_sum``, 64 problems
x 8 completions per rollout and four updates each, one thread, one process, in turn. Their loop, losses,
buffer and optimizer run as they are (commit a66b0bf); what against_rlhf_book_peer.py gives them are the
problems, the prompts, and a pattern that reads the box, in place of their task, chat template and tags.
Ours takes what they do otherwise: single completions in an update, the sample standard deviation,
Adam's second beta of 0.999 and no weight decay. The problems of a run are the same, in another order.
Writes ``results.json``, ``results.md`` and ``curves.png`` after every pair.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import reasoning_gym
from race import EMBEDDED, Peer, Race, Run, run_race

THEIR_CONVENTIONS = (
    "batching.minibatch_unit=completion",
    "algorithm.std=sample",
    "optimizer.beta2=0.999",
    "optimizer.weight_decay=0",
)
SETTINGS: dict[str, Run] = {
    "as it is, bf16 weights and gradient checkpointing": {"bf16": True, "checkpointing": True},
    "bf16 weights": {"bf16": True, "checkpointing": False},
    "fp32 weights": {"bf16": False, "checkpointing": False},
}


def write_sums(path: Path, count: int, seed: int, left_out: set[str]) -> set[str]:
    """Write different sums of three to five numbers of one digit; return them."""
    options = {"min_terms": 3, "max_terms": 5, "min_digits": 1, "max_digits": 1}
    made: dict[str, str] = {}
    for entry in reasoning_gym.create_dataset("chain_sum", size=4 * count, seed=seed, **options):
        text = entry["metadata"]["expression"].replace(" ", "")
        if text not in left_out and len(made) < count:
            made[text] = entry["answer"]
    lines = [json.dumps({"problem": text, "answer": answer}) for text, answer in made.items()]
    path.write_text("\n".join(lines) + "\n")
    return set(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", required=True, help="of an environment with what their code needs")
    parser.add_argument("--code", required=True, type=Path, help="folder that holds policy_gradients")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rollouts", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        train, held_out = Path(folder) / "train.jsonl", Path(folder) / "held_out.jsonl"
        asked = write_sums(held_out, 100, 1, set())
        write_sums(train, 2000, 0, asked)
        problems = ["problems=jsonl", f"problems.path={train}", f"problems.eval_path={held_out}"]
        overrides = [*EMBEDDED, *problems, "problems.prompt.template=equals", *THEIR_CONVENTIONS]
        script = Path(__file__).with_name("against_rlhf_book_peer.py")
        settings = {name: SETTINGS[name] for name in args.settings}
        peer = Peer("RLHF Book", args.python, script, settings, {"code": str(args.code.resolve())})
        run_race(peer, Race(overrides, args.rollouts, 1, args.pairs, [0.5, 0.8]), args.out)


if __name__ == "__main__":
    main()
