"""Writes the table of ``docs/models.md`` from that of the tests."""

from __future__ import annotations

from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

from tests.architectures.table import ARCHITECTURES, Architecture

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"
HEAD = ("model", "what sets it apart", "`rollout=hf`", "`rollout=vllm`", "padding-free", "fused")


def row(chosen: Architecture) -> list[str]:
    """Return the cells of one model."""
    name = NAMES[chosen.config().model_type]
    attention = f"; `{chosen.attention}` attention" if chosen.attention else ""
    return [
        f"`{name}`",
        chosen.what + attention,
        "equal" if chosen.cached else "equal, slow",
        f"equal, as `{chosen.vllm}`" if chosen.plays else chosen.vllm,
        "equal" if chosen.padding_free else "refused",
        "equal" if chosen.fused else "refused",
    ]


def table() -> str:
    """Return the whole table in Markdown."""
    rows = [HEAD, ["---"] * len(HEAD), *map(row, ARCHITECTURES.values())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def page(text: str) -> str:
    """Return the page ``text`` with today's table."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
