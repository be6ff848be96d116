"""Record `nft-train` as an SVG that plays in a browser, from the output of a real run.

python benchmarks/recording.py                      the embedded default, into docs/first_run.svg
python benchmarks/recording.py algorithm=grpo       the same with other overrides

The lines appear in their order, 20 times as fast as they came; without animations all are there at once.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "first_run.svg"
COLUMNS = 100
FASTER = 20.0
LONGEST_WAIT_SECONDS = 0.8
# One row of the terminal in Rich's drawing: its text, and the colour behind its text.
ROW = re.compile(r'<(?:text|rect)\b[^>]*clip-path="url\(#[\w-]+-line-(\d+)\)"')
STYLE = """
    @keyframes appear { from { opacity: 0 } to { opacity: 1 } }
    .row { animation: appear 0.01s backwards }
"""


def recorded(overrides: list[str], folder: str) -> list[tuple[float, str]]:
    """Return each line that a run writes, with the seconds since its start."""
    command = [sys.executable, "-m", "nft_lightning.cli.train", *overrides, "run_dir=runs/first"]
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "PYTHONPATH": str(ROOT)}
    environment = {**environment, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    started = time.perf_counter()
    found = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found.append((time.perf_counter() - started, line.rstrip("\n")))
    if process.returncode:
        sys.exit("\n".join(line for _, line in found))
    return found


def shown_at(seconds: list[float]) -> list[float]:
    """Return when each line appears in the recording, in seconds."""
    now, before, found = 0.6, 0.0, []
    for second in seconds:
        now += min((second - before) / FASTER, LONGEST_WAIT_SECONDS)
        before = second
        found.append(now)
    return found


def animated(svg: str, appear_at: list[float]) -> str:
    """Return the drawing with each row appearing at its time."""
    last = len(appear_at) - 1

    def with_delay(match: re.Match[str]) -> str:
        delay = appear_at[min(int(match[1]), last)]
        return f'{match[0]} style="animation-delay:{delay:.2f}s"'.replace(" ", ' data-row="" ', 1)

    drawn = ROW.sub(with_delay, svg)
    return drawn.replace("<style>", f"<style>{STYLE.replace('.row', '[data-row]')}", 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = recorded(sys.argv[1:], folder)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), "make train"))
    for _, line in lines:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title="make train")
    OUT.write_text(animated(svg, [0.0, *shown_at([second for second, _ in lines])]))
    sys.stdout.write(f"{OUT}: {len(lines)} lines in {lines[-1][0]:.0f} s\n")


if __name__ == "__main__":
    main()
