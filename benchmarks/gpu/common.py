"""What the checks of this folder share: what is missing, random models, runs of nft-train, results."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]
# Qwen3-0.6B's, and one that a processor core trains in seconds.
SHAPES = {
    "qwen3_0.6b": {
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
    },
    "rehearsal": {
        "vocab_size": 4096,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 4096,
    },
}


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that every check has."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--out", type=Path, help="a folder for results.json and results.md")
    made.add_argument(
        "--rehearse", action="store_true", help="on the CPU with a tiny model: does the script work"
    )
    return made


def needs(script: str, gpus: int = 1, free_gib: float = 0.0, packages: Sequence[str] = ()) -> str | None:
    """What is missing here for ``script``, in one sentence; None where nothing is."""
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not found:
        return f"benchmarks/gpu/{script} needs an NVIDIA GPU, and torch sees none here."
    if found < gpus:
        return f"benchmarks/gpu/{script} needs {gpus} GPUs, and torch sees {found}: see --devices."
    for package, install in (p.split(":") for p in packages):
        if importlib.util.find_spec(package) is None:
            return f"benchmarks/gpu/{script} needs {package}: run pip install {install}."
    for device in range(gpus):
        free = torch.cuda.mem_get_info(device)[0] / GIB
        if free < free_gib:
            return f"{free_gib:g} GiB of memory must be free on GPU {device}, and {free:.1f} are."
    return None


def facts() -> dict[str, str]:
    """The device and the versions that a figure depends on."""
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    found = {"device": device, "torch": torch.__version__, "transformers": transformers.__version__}
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def random_model(
    shape: str, dtype: Any, device: str = "cpu", attention: str = "sdpa", **options: Any
) -> Any:
    """A Qwen3 of random weights, the same ones each time, and the tiny policy's tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from nft_lightning.policy.loading import TinyModel

    tokenizer = TinyModel().inspect().tokenizer
    config = Qwen3Config(
        **{**SHAPES[shape], **options},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM._from_config(config, attn_implementation=attention, dtype=torch.float32)
    return model.to(device, dtype), tokenizer


def save_random_model(folder: Path, shape: str, **options: Any) -> None:
    """As ``model=hf model.path=FOLDER`` reads it, in fp32."""
    import torch

    model, tokenizer = random_model(shape, torch.float32, **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(words: Sequence[str], processes: int = 1, **environment: str) -> str | None:
    """nft-train with ``words``; why it refused or failed, in one line, or None.

    Where it says so in no sentence of its own, the end of what it wrote goes to the screen.
    """
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    result = subprocess.run(
        [*command, "nft_lightning.cli.train", *words],
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path, **environment},
    )
    if result.returncode == 0:
        return None
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("error: ", "stopped: "))]
    if not said:
        sys.stderr.write("\n".join(lines[-40:]) + "\n")
    # A process that a signal ended says nothing itself, and torchrun says which signal.
    errors = [line for line in lines if "Error: " in line or "Signal " in line]
    words = (said or errors[::-1] or lines[-1:] or ["it ended without a word"])[0]
    return words.partition(": ")[2][:300] if said else words[:300]


def refused(words: Sequence[str]) -> str | None:
    """Why nft-train would not begin here; None where it would. No model is loaded."""
    from nft_lightning.app.parts import build_parts
    from nft_lightning.app.preflight import check_machine
    from nft_lightning.cli.entry import compose_or_explain
    from nft_lightning.errors import UserError

    try:
        cfg = compose_or_explain("train", list(words))
        check_machine(cfg, build_parts(cfg))
    except UserError as error:
        return str(error)
    return None


WATCH = "+callbacks.watch._target_=benchmarks.gpu.watch.Watch"


def watched(run_dir: Path) -> list[dict[str, Any]]:
    """What :class:`benchmarks.gpu.watch.Watch` wrote, rank by rank."""
    return [json.loads(path.read_text()) for path in sorted(run_dir.glob("watch/rank_*.json"))]


def seconds_of(updates: Sequence[dict[str, Any]]) -> float:
    """The median without the first update, which warms up."""
    return statistics.median(update["seconds"] for update in updates[1:] or updates)


def peak_gib(updates: Sequence[dict[str, Any]], kind: str = "allocated_bytes") -> float:
    """The largest of any update."""
    return max(update[kind] for update in updates) / GIB


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; the columns are the first row's keys, and what a row lacks is a dash."""
    from nft_lightning.common.text import markdown

    head = list(rows[0])
    return markdown(head, [[str(row.get(key, "-")) for key in head] for row in rows])


def write(
    given: argparse.Namespace, found: dict[str, Any], about: str, rows: Sequence[dict[str, Any]]
) -> None:
    """``results.json`` and ``results.md`` in ``given.out``; the latter on the screen, too."""
    machine = ", ".join(f"{name} {value}" for name, value in facts().items())
    rehearsal = "A rehearsal on the CPU: nothing of it is a result for GPUs. " if given.rehearse else ""
    text = f"{rehearsal}{about} {machine}.\n\n{table(rows)}"
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(json.dumps({"facts": facts(), **found}, indent=1) + "\n")
        (given.out / "results.md").write_text(text)
    sys.stdout.write(text)
