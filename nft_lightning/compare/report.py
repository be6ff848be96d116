"""A comparison as files: one page that needs nothing else, figures for papers, tables, data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nft_lightning.common.pictures import encoded
from nft_lightning.compare.comparison import Comparison
from nft_lightning.compare.conclusions import conclusions
from nft_lightning.compare.figures import draw_all
from nft_lightning.compare.made import made_with, sentence
from nft_lightning.compare.tables import (
    comma_separated,
    config_table,
    cost_table,
    difference_table,
    latex,
    level_table,
    markdown,
    run_table,
)
from nft_lightning.errors import UserError

KINDS = {"md": markdown, "tex": latex, "csv": comma_separated}
TEMPLATES = Path(__file__).parent


def write_report(comparison: Comparison, folder: Path, title: str) -> list[Path]:
    """Write everything into ``folder``; returns the files, the page first.

    All of it is made before the first file is written.

    Raises:
        UserError: the folder cannot be written.
    """
    figures = draw_all(comparison)
    drawn = {name: encoded(figure, "svg").decode() for name, figure in figures.items()}
    files: dict[str, bytes] = {"report.html": page(comparison, drawn, title).encode()}
    for name, figure in figures.items():
        files[f"figures/{name}.svg"] = standalone(drawn[name]).encode()
        files |= {f"figures/{name}.{kind}": encoded(figure, kind) for kind in ("png", "pdf")}
    for name, table in (
        ("levels", level_table(comparison)),
        ("runs", run_table(comparison)),
        ("costs", cost_table(comparison)),
        ("differences", difference_table(comparison)),
    ):
        files |= {f"{name}.{kind}": write(table).encode() for kind, write in KINDS.items()}
    files["comparison.json"] = (json.dumps(as_data(comparison), indent=1) + "\n").encode()
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise UserError("--out", str(folder), reason, "give another folder") from error
    return [folder / name for name in files]


def page(comparison: Comparison, drawn: dict[str, str], title: str) -> str:
    """Return the page; every text that came from a run is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    every = [r for group in comparison.runs.values() for r in group]
    return environment.get_template("report.html.j2").render(
        title=title,
        labels=list(comparison.runs),
        runs=[f"{r.label}, seed {r.seed}: {r.folder}" for r in every],
        problems=len(every[0].final.problem_ids),
        k=comparison.k,
        made=sentence(made_with(comparison.runs)),
        conditions=", ".join(sorted({r.versions.get("conditions", "?") for r in every})),
        target=f"{comparison.target:.2f}",
        baseline=comparison.baseline,
        warnings=comparison.warnings,
        conclusions=conclusions(comparison),
        levels=level_table(comparison),
        over_runs=run_table(comparison),
        costs=cost_table(comparison),
        differences=difference_table(comparison),
        settings=config_table(comparison),
        # Matplotlib's own output, in which it has escaped every label.
        svg={name: Markup(text) for name, text in drawn.items()},
    )


def standalone(svg: str) -> str:
    """Return a figure that is opened by itself: dark text, whatever the viewer's theme."""
    return svg.replace("<svg ", '<svg color="#1a1a1a" ', 1)


def as_data(comparison: Comparison) -> dict[str, Any]:
    """Return the numbers of the report, for other programs; intervals as mean, low, high, p_value."""

    def plain(value: Any) -> Any:
        if hasattr(value, "_asdict"):
            return value._asdict()
        return value

    def record(item: Any) -> dict[str, Any]:
        return {f.name: plain(getattr(item, f.name)) for f in dataclasses.fields(item)}

    return {
        "k": comparison.k,
        "target": comparison.target,
        "baseline": comparison.baseline,
        "levels": [record(v) for v in comparison.levels],
        "differences": [record(d) for d in comparison.differences],
        "warnings": comparison.warnings,
        "made": made_with(comparison.runs),
        "runs": {label: [str(r.folder) for r in group] for label, group in comparison.runs.items()},
    }
