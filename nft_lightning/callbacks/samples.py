"""Sample answers to held-out problems, before and after, as a readable page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from nft_lightning.records.writing import check_write_rule, written
from nft_lightning.rollouts import serialized as packing
from nft_lightning.training.module import PolicyModule
from nft_lightning.types import Group


class SampleTable(L.Callback):
    """Writes ``samples.md``: the first ``problems`` held-out problems at every evaluation."""

    def __init__(self, problems: int = 6, on_write_error: str = "continue") -> None:
        self.problems = problems
        self.rule = check_write_rule(on_write_error, "callbacks.samples.on_write_error")
        self.history: list[tuple[int, list[Group]]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the answers and rewrite the page."""
        assert isinstance(pl_module, PolicyModule)
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        found = (pl_module.policy_version, pl_module.data.last_evaluation[: self.problems])
        self.history = [*self.history[:1], found]
        prompt = found[1][0].prompt_ids if found[1] else ()
        read = pl_module.policy.tokenizer.decode(list(prompt))
        page = render(self.history[0], self.history[-1], read)
        path = Path(trainer.default_root_dir) / "samples.md"
        with written(path, self.rule):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")

    def state_dict(self) -> dict[str, Any]:
        """Return the first and the last answers."""
        return {"history": [(version, packing.pack_groups(groups)) for version, groups in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with what was saved."""
        self.history = [(v, packing.unpack_groups(packed)) for v, packed in state_dict["history"]]


def render(first: tuple[int, list[Group]], last: tuple[int, list[Group]], prompt: str) -> str:
    """Return the first prompt, and the first sample of each problem at two policy versions."""
    lines = ["# Sample answers to held-out problems", ""]
    lines += ["The first problem's prompt, as the model reads it:", ""]
    lines += [*[f"    {line}" for line in prompt.split("\n")], ""]
    for before, after in pairs(first[1], last[1]):
        lines += [f"## {before.problem.text} (gold {before.problem.answer})", ""]
        for version, group in ((first[0], before), (last[0], after)):
            right = sum(v.correct for v in group.verdicts)
            lines += [
                f"After {version} updates, {right} of {len(group.verdicts)} right; the first sample "
                f"({group.verdicts[0].outcome}):",
                "",
                *[f"    {line}" for line in group.completions[0].text.splitlines()],
                "",
            ]
    return "\n".join(lines)


def pairs(before: list[Group], after: list[Group]) -> list[tuple[Group, Group]]:
    """By problem: after a resume a rank may have another share of them."""
    later = {group.problem: group for group in after}
    return [(group, later[group.problem]) for group in before if group.problem in later]
