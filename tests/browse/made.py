"""A run folder with answers of our choice, scored by the shipped policy."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import torch
import yaml

from nft_lightning.checkpoints.folder import write_checkpoint
from nft_lightning.policy.loading import TinyModel
from nft_lightning.records.rollouts import write
from nft_lightning.rollouts.table import ANSWERS, TOKENS

SCRIPT = "<script>window.hacked = 1; alert(1)</script><img src=x onerror='window.hacked = 1'>"
HOSTILE = (
    SCRIPT,
    "a" * 2**20,
    "\x00\x1b[31m bell \x07 \u202eolleh\u202c zero\u200bwidth",
    "</pre></article></body>" + SCRIPT + "{{ 7 * 7 }} {% raw %}",
)
PROBLEM = "7+12-5"
TEXTS = ("7+12=19\n19-5=14\n\\boxed{14}", "\\boxed{15}", "\\boxed{14}", "7+12=18\n\\boxed{13}")


def direct_logprobs(policy, ids: list[int], prompt: str = PROBLEM) -> list[float]:
    """By the model's own logits, without ours."""
    before = policy.tokenizer.encode(prompt + "=", add_special_tokens=False)
    with torch.no_grad():
        logits = policy.model(torch.tensor([before + ids])).logits[0].float().log_softmax(-1)
    return [logits[len(before) + t - 1, i].item() for t, i in enumerate(ids)]


def rows_of(policy, epoch: int, problem: str, texts, verdicts, tokens: bool = True) -> list[dict]:
    right = sum(v == "correct" for v in verdicts) / len(verdicts)
    found = []
    for k, (text, verdict) in enumerate(zip(texts, verdicts, strict=True)):
        ids = policy.tokenizer.encode(text[:200], add_special_tokens=False)
        ids = [i for i in ids if i is not None] + [policy.tokenizer.eos_token_id]
        row = {
            "epoch": epoch,
            "policy_version": 4 * epoch,
            "problem_id": f"id:{problem[:100]}",
            "problem": problem,
            "gold": "14",
            "prompt_accuracy": right,
            "sample": k,
            "completion": text,
            "verdict": verdict,
            "extracted": None if verdict != "correct" else "14",
            "reward": float(verdict == "correct"),
            "length_tokens": len(ids),
            "truncated": False,
        }
        if tokens:
            row |= {"token_ids": ids, "engine_logprobs": direct_logprobs(policy, ids)}
        found.append(row)
    return found


def make_run(folder: Path) -> Path:
    """Two epochs and two evaluations; checkpoints ``epoch_00000`` (as shipped) and ``epoch_00001``."""
    policy = TinyModel().load(1.0)
    folder.mkdir(parents=True)
    config = {
        "model": {"_target_": "nft_lightning.policy.loading.TinyModel", "name": "tiny"},
        "problems": {
            "prompt": {
                "_target_": "nft_lightning.problems.prompts.PromptConfig",
                "template": "equals",
            }
        },
        "rollout": {"temperature": 1.0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    half = ("correct", "wrong", "correct", "wrong")
    schema = pa.schema([("epoch", pa.int32()), *ANSWERS, *TOKENS])
    for epoch in (0, 1):
        rows = [
            *rows_of(policy, epoch, PROBLEM, TEXTS, half),
            *rows_of(policy, epoch, f"1+{epoch}", TEXTS[1:3], ("wrong", "unparsable")),
        ]
        if epoch == 1:
            rows += rows_of(policy, epoch, "hostile " + SCRIPT, HOSTILE, half)
        write(pa.Table.from_pylist(rows, schema), folder / "rollouts" / f"epoch_{epoch:04d}.parquet")
        rows = rows_of(
            policy, epoch, PROBLEM, TEXTS[:2], ("correct", ("wrong", "correct")[epoch]), False
        )
        for row in rows:
            del row["epoch"]
        path = folder / "evaluations" / f"update_{4 * epoch:06d}.parquet"
        write(pa.Table.from_pylist(rows, pa.schema(ANSWERS)), path)
    for epochs in (0, 1):
        state = {f"policy.{k}": v for k, v in policy.state_dict().items()}
        write_checkpoint(
            folder / "checkpoints" / f"epoch_{epochs:05d}",
            {"state_dict": state},
            {"epochs": epochs, "updates": None, "score": None, "ranks": 1},
        )
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return folder
