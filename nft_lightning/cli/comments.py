"""What each key of the config means: in the docstring of its class, and in its line in ``conf/``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nft_lightning.app.build import CONF_DIR, target
from nft_lightning.cli.owners import holds_keys
from nft_lightning.errors import UserError

# A line of a yaml file: how far it is indented, its key, its value, and a comment.
LINE = re.compile(r"^( *)([\w-]+):(?:\s[^#]*)?(?:#\s*(.*))?$")
# "name, other: what they are" at the beginning of an entry of a docstring's section.
ENTRY = re.compile(r"^([a-z_][\w]*(?:, [a-z_]\w*)*): (.*)$")
# Sphinx's mark of what a name in a docstring is.
ROLE = re.compile(r":(?:mod|func|class|data|meth):")
SECTIONS = ("Attributes:", "Args:")


def of_yaml(path: str) -> dict[str, str]:
    """Return the comment behind each key of a file below ``conf/``, by the key's dotted name in it."""
    file = CONF_DIR / f"{path}.yaml"
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        match = LINE.match(line)
        if match is None:
            continue
        indent = len(match[1])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, match[2]))
        if match[3]:
            found[".".join(name for _, name in parents)] = match[3].removeprefix("| ")
    return found


def of_class(cls: Any) -> dict[str, str]:
    """Return what the docstrings of a class and of those it inherits from say of each field."""
    found: dict[str, str] = {}
    for one in reversed(inspect.getmro(cls) if inspect.isclass(cls) else [cls]):
        found |= entries(inspect.getdoc(one) or "")
    return found


def entries(doc: str) -> dict[str, str]:
    """Return each name of a docstring's ``Attributes`` and ``Args`` with its text.

    Names that are described together have one text; a second entry may follow a semicolon.
    """
    found: dict[str, str] = {}
    names: list[str] = []
    within = False
    for line in doc.splitlines():
        if line.strip() in SECTIONS:
            within = True
        elif within and line and not line.startswith(" "):
            within = False
        elif within and line.strip():
            for part in re.split(r"(?<=;) |(?<=\.) (?=[a-z_]\w*: )", line.strip()):
                match = ENTRY.match(part)
                if match:
                    names = match[1].split(", ")
                text = match[2] if match else part
                for name in names:
                    found[name] = f"{found[name]} {text}" if not match and name in found else text
    return {name: ROLE.sub("", text.rstrip(";.")).replace("``", "`") for name, text in found.items()}


def of_classes(node: DictConfig, place: str = "") -> dict[str, str]:
    """Return what the classes that a composed node names say of its keys, by their dotted names."""
    found: dict[str, str] = {}
    for name, below in nodes(node, place):
        if not isinstance(below.get("_target_"), str):
            continue
        try:
            said = of_class(target(below, name))
        except UserError:  # a library that is not installed
            continue
        found |= {f"{name}.{key}": text for key, text in said.items() if key in below}
    return found


def of_files(config_name: str, choices: dict[str, str]) -> dict[str, str]:
    """Return the comments in the files that a config is composed from, by the keys' dotted names.

    Args:
        config_name: ``train``, ``evaluate`` or ``plan``. choices: the option of each group.
    """
    found = of_yaml("train") | of_yaml("plan") if config_name == "plan" else of_yaml(config_name)
    for group, option in choices.items():
        prefix = group.replace("/", ".")
        for file in files_of(group, option):
            found |= {f"{prefix}.{key}": text for key, text in of_yaml(file).items()}
    return found


def nodes(node: DictConfig, place: str) -> Iterator[tuple[str, DictConfig]]:
    """Yield a node and those below it, each with its dotted name."""
    yield place, node
    for key in node:
        if holds_keys(node, key):
            yield from nodes(node[key], f"{place}.{key!s}" if place else str(key))


def files_of(group: str, option: str) -> list[str]:
    """Return the files of an option of a group, those that it builds on before it."""
    path = CONF_DIR / group / f"{option}.yaml"
    if not path.is_file():
        return []
    node = OmegaConf.load(path)
    below: list[str] = []
    for entry in node.get("defaults", []) if isinstance(node, DictConfig) else []:
        if isinstance(entry, str) and entry != "_self_":
            below += files_of(group, entry)
    return [*below, f"{group}/{option}"]
