"""The configuration reference of the documentation: a table for each option, as Markdown."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import CONF_DIR, option, options_of
from nft_lightning.cli.comments import files_of, of_classes, of_files
from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.cli.help import choices, is_value, meaning, own, written
from nft_lightning.cli.owners import dotted

# Groups whose options have keys of their own; the others set keys that are listed already.
GROUPS = ("model", "problems", "rollout", "verifier", "trainer", "cold_start", "callbacks", "logger")
NODES = ("batching", "policy", "optimizer", "evaluation", "problems.prompt")


def tables() -> str:
    """Return the tables, with a heading for each node and group."""
    cfg = compose_or_explain("train", [])
    meanings = of_files("train", choices(cfg)) | of_classes(own(cfg))
    root = [str(key) for key in own(cfg) if is_value(cfg, str(key))]
    lines = ["## The run", "", *table(cfg, root, meanings)]
    for node in NODES:
        lines += [f"## {node}", "", *table(cfg, keys_below(cfg, node), meanings)]
    shared = keys_below(OmegaConf.create({"algorithm": option("algorithm", "grpo")}), "algorithm")
    shared = [key for key in shared if key.partition(".")[2] in option("algorithm", "base")]
    lines += ["## algorithm", "", "Options that every algorithm has:", ""]
    lines += table(cfg, shared, meanings)
    for name in options_of("algorithm"):
        lines += of_option("algorithm", name, leave_out=set(shared))
    for group in GROUPS:
        lines += [f"## {group}", ""]
        for name in options_of(group):
            lines += of_option(group, name, leave_out=set())
    return "\n".join(lines)


def of_option(group: str, name: str, leave_out: set[str]) -> list[str]:
    """Return the heading and the table of an option; a sentence where it has no keys of its own."""
    node = OmegaConf.merge(
        *(OmegaConf.load(CONF_DIR / f"{file}.yaml") for file in files_of(group, name))
    )
    assert isinstance(node, DictConfig)
    node.pop("defaults", None)
    cfg = OmegaConf.create({group: node})
    keys = [key for key in keys_below(cfg, group) if key not in leave_out]
    meanings = of_files("train", {group: name}) | of_classes(cfg)
    lines = [f"### {group}={name}", ""]
    return [*lines, *(table(cfg, keys, meanings) if keys else ["No keys of its own.", ""])]


def keys_below(cfg: DictConfig, node: str) -> list[str]:
    """Return the values below a node, by their dotted names."""
    return [key for key in dotted(cfg) if key.startswith(f"{node}.") and is_value(cfg, key)]


def table(cfg: DictConfig, keys: list[str], meanings: dict[str, str]) -> list[str]:
    """Return the lines of a table of keys."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    values = OmegaConf.to_container(own(cfg), resolve=False)
    for key in keys:
        value = written(values, key)
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        text = meaning(key, value, meanings)
        lines.append(f"| `{key}` | `{shown}` | {text} |".replace(" | `` |", " | empty |"))
    return [*(cell_safe(line) for line in lines), ""]


def cell_safe(line: str) -> str:
    """Return a row whose meanings hold no bar of their own: alternatives are written with 'or'."""
    if not line.startswith("| `"):
        return line
    key, default, text = line.removeprefix("| ").removesuffix(" |").split(" | ", 2)
    return f"| {key} | {default} | {text.replace(' | ', ' or ').replace('|', 'or')} |"
