"""The tutorials as a reader follows them: files where they say, then each command, only smaller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, FENCE, words
from tests.processes import cli

pytestmark = pytest.mark.slow
FILE = re.compile(r"`([\w/]+\.(?:py|yaml|jsonl))`")
SMALLER = (
    "trainer.max_epochs=1",
    "rollout.problems_per_rollout=4",
    "rollout.completions_per_problem=2",
    "rollout.max_new_tokens=24",
    "evaluation.problems=4",
    "evaluation.completions_per_problem=2",
    "callbacks.progress=null",
)
EXPECTED = {"add_a_reward": (4, 4), "add_an_algorithm": (1, 2), "own_data_and_model": (4, 0)}
"""Commands that run on each page, and files that it has."""
EMBEDDED = ("eval.prompt.template=equals", "eval.prompt.instruction=null", "eval.max_new_tokens=24")
# Another model, a download, or many runs: composed in test_commands.
LEFT_OUT = ("MODEL", "NAME", "-m", "rtx4090", "hf_dataset")


def left_out(given: list[str]) -> bool:
    """Return whether a command needs what no test has."""
    return any(word == part or word.endswith(f"={part}") for word in given for part in LEFT_OUT)


def steps(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each block's language and text, with the paragraph before it, empty where there is none."""
    text, end = page.read_text(encoding="utf-8"), 0
    for block in FENCE.finditer(text):
        yield text[end : block.start()].strip().rpartition("\n\n")[2], block[1], block[2]
        end = block.end()


def smaller(given: list[str]) -> list[str]:
    """Return a command with little to do, and as the page says for the embedded policy."""
    if given[0] == "nft-train":
        return [*given, *SMALLER]
    return [*given, *(EMBEDDED if "eval=jsonl" in given else ())]


def write(folder: Path, paragraph: str, text: str) -> None:
    """Write a block into the file that the paragraph before it names; the path is the last one there."""
    path = folder / FILE.findall(paragraph)[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("page", EXPECTED)
def test_a_tutorial_can_be_followed(page, tmp_path):
    done, files = [], 0
    for paragraph, language, text in steps(DOCS / "tutorials" / f"{page}.md"):
        if language in ("python", "yaml") and FILE.search(paragraph):
            write(tmp_path, paragraph, text)
            files += 1
        elif language == "python":
            (tmp_path / "block.py").write_text(text)
            assert cli(module=str(tmp_path / "block.py"), cwd=tmp_path, timeout=300).returncode == 0
        for line in text.splitlines() if language == "" else []:
            given = words(line)
            if given[:1] not in (["nft-train"], ["nft-eval"], ["nft-verify"]) or left_out(given):
                continue
            module = {"nft-verify": "verify", "nft-eval": "evaluate", "nft-train": "train"}[given[0]]
            ended = cli(
                *smaller(given)[1:],
                module=f"nft_lightning.cli.{module}",
                cwd=tmp_path,
                timeout=300,
            )
            assert ended.returncode == 0, (line, ended.stderr[-3000:])
            done.append(given[0])
    assert (len(done), files) == EXPECTED[page]
