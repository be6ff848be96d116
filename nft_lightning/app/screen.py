"""The two screens of a run: what will happen, and what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from nft_lightning.app.conditions import conditions_hash
from nft_lightning.app.parts import Parts
from nft_lightning.callbacks.samples import pairs
from nft_lightning.common.text import metric_label, with_interval
from nft_lightning.errors import UserError
from nft_lightning.training.module import PolicyModule
from nft_lightning.types import Group

SHOWN_CHARACTERS = 200
REASONS = {
    "empty_rollouts": "; stopped early, rollouts held nothing to learn from",
    "callbacks": "; ended by a callback",
    "max_steps": "; ended by trainer.max_steps",
    "max_time": "; ended by trainer.max_time",
}
# What a run folder may hold, by what a reader would open first.
KEPT = {
    "curve.png": "curve.png",
    "samples.md": "samples.md",
    "metrics.csv": "metrics.csv",
    "rollouts": "rollouts/",
    "checkpoints": "checkpoints/",
    "export": "export/ (Hugging Face)",
}


def print_plan(
    cfg: DictConfig,
    parts: Parts,
    module: PolicyModule,
    held_out: int,
    checkpoint: Path | None = None,
) -> None:
    """What the run is about to do, on one screen."""
    rollout, batching = parts.rollout, parts.batching
    parameters = sum(p.numel() for p in module.policy.parameters())
    trained = sum(p.numel() for p in module.policy.parameters() if p.requires_grad)
    of_these = f", of which {trained / 1e6:.2f} M train" if trained < parameters else ""
    completions = rollout.problems_per_rollout * rollout.completions_per_problem
    refills = rollout.max_generation_rounds - 1 if parts.objective.drop_uniform_groups else 0
    written = (
        f"{rollout.problems_per_rollout} worked answers"
        if parts.objective.needed_inputs.references
        else f"{rollout.problems_per_rollout} problems x {rollout.completions_per_problem} = "
        f"{completions} completions of at most {rollout.max_new_tokens} tokens"
    )
    rows = {
        "algorithm": f"{type(parts.objective).__name__}, reduction {parts.objective.reduction}",
        "model": f"{parameters / 1e6:.2f} M parameters{of_these}, "
        f"{(4 * parameters + 12 * trained) / 2**20:.0f} MiB with AdamW",
        "rollout": written + (f", uniform groups refilled {refills} time(s)" if refills else ""),
        "updates": f"{batching.updates_per_rollout} optimizer steps per rollout; the first is on-policy",
        "epochs": f"{cfg.trainer.max_epochs}, so at most "
        f"{cfg.trainer.max_epochs * completions * (refills + 1):,} completions and "
        f"{cfg.trainer.max_epochs * batching.updates_per_rollout} updates",
        "first prompt": first_prompt(parts, module.policy.tokenizer, cfg.seed),
        "evaluation": f"{held_out} held-out problems x "
        f"{parts.evaluation.completions_per_problem}, every {parts.evaluation.every_epochs} epochs",
        **({"left out": "\n".join(parts.asked.left_out)} if parts.asked.left_out else {}),
        "run folder": str(cfg.run_dir),
        **({"resumed from": checkpoint.name} if checkpoint else {}),
        "conditions": f"{conditions_hash(cfg)} (equal for runs that may be compared)",
    }
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    Console().print(Panel(table, title="nft-train", title_align="left"))


def first_prompt(parts: Parts, tokenizer: Any, seed: int) -> str:
    """Return the first training problem as the model reads it, special tokens too, cut in the middle."""
    try:
        ids = parts.prompt.encode(tokenizer, parts.source.problem(0, seed).text)
    except UserError as error:
        return f"none ({error})"
    text = repr(tokenizer.decode(list(ids)))
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[: SHOWN_CHARACTERS // 2]} ... {text[-SHOWN_CHARACTERS // 2 :]}"
    return f"{text}, {len(ids)} tokens"


def print_summary(
    cfg: DictConfig, summary: dict[str, Any], before: list[Group], after: list[Group]
) -> None:
    """Accuracy before and after, two examples, and what to do next."""
    console = Console()
    table = Table(title="held-out problems", title_justify="left")
    for column in ("", "before", "after"):
        table.add_column(column)
    for name in summary["before"]:
        if name.endswith(("_low", "_high")) or name not in summary["after"]:
            continue
        table.add_row(
            metric_label(name),
            with_interval(summary["before"], name),
            with_interval(summary["after"], name),
        )
    console.print(table)
    for old, new in changed_examples(before, after):
        console.print(Text(f"{old.problem.text}  (gold {old.problem.answer})", style="bold"))
        console.print(Columns([answer_panel("before", old), answer_panel("after", new)]))
    reason = REASONS.get(summary["ended_by"], "")
    console.print(
        f"{summary['epochs']} epochs, {summary['updates']} updates in "
        f"{summary['training_seconds']:.0f} s{reason}",
        highlight=False,
    )
    folder = Path(cfg.run_dir)
    console.print(Text(f"Run folder: {folder}"))
    console.print(f"  {', '.join(label for name, label in KEPT.items() if (folder / name).exists())}")
    console.print("Try next:  nft-train algorithm=grpo    nft-train experiment=arithmetic_compare")


def changed_examples(before: list[Group], after: list[Group]) -> list[tuple[Group, Group]]:
    """Return two problems, those whose accuracy rose the most."""
    return sorted(pairs(before, after), key=lambda pair: pair[0].accuracy - pair[1].accuracy)[:2]


def answer_panel(label: str, group: Group) -> Panel:
    """Return one sample, shown as plain text."""
    verdict = group.verdicts[0].outcome
    right = sum(v.correct for v in group.verdicts)
    title = f"{label}: {verdict}, {right}/{len(group.verdicts)} right"
    return Panel(Text(group.completions[0].text), title=title, width=38)
