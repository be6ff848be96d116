"""nft-compare: many runs, one report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nft_lightning.cli.entry import guarded, take_debug_flag

HELP = """Compare finished runs under equal conditions.

  nft-compare runs/multirun/2026-01-31/12-00-00 --out report     every run below that folder
  nft-compare runs/a runs/b runs/c --out report --baseline grpo

Writes report.html (one page, offline), figures/ (SVG, PNG, PDF), levels, runs, costs and
differences as Markdown, LaTeX and CSV, and comparison.json.
"""
EPILOG = """Runs that differ in more than algorithm and seed are refused, since their difference would
say nothing about the algorithms. What is meant to differ is named by --may-differ, and the report
says so. Exit code: 0, or 2 for what cannot be compared.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of nft-compare."""
    made = argparse.ArgumentParser(
        "nft-compare",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "runs", nargs="+", type=Path, metavar="RUNS", help="run folders, or folders of them"
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report goes")
    made.add_argument(
        "--baseline",
        metavar="LABEL",
        help="algorithm that the others are set against (default: the first)",
    )
    made.add_argument(
        "--target",
        type=float,
        metavar="A",
        help="target of the tokens-to-accuracy columns (default: halfway from start to lowest end)",
    )
    made.add_argument(
        "--may-differ", nargs="+", action="extend", default=[], metavar="KEY", help="e.g. optimizer"
    )
    made.add_argument("--title", default="Comparison", help="heading of the page")
    return made


def run(given: argparse.Namespace) -> None:
    """The command, arguments parsed. Raises UserError for what cannot be compared."""
    # After the arguments: --help needs no torch.
    from nft_lightning.compare.comparison import compare
    from nft_lightning.compare.conclusions import conclusions
    from nft_lightning.compare.report import write_report

    found = compare(given.runs, given.baseline, given.target, given.may_differ)
    files = write_report(found, given.out, given.title)
    for text in found.warnings:
        sys.stderr.write(f"warning: {text}\n")
    for text in conclusions(found):
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"Report: {files[0]} ({len(files)} files)\n")


def main() -> None:
    """The console command."""
    debug = take_debug_flag(sys.argv)
    given = parser().parse_args()
    guarded(lambda: run(given), debug)


if __name__ == "__main__":
    main()
