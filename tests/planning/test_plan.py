"""What a plan says, how it moves with the config, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nft_lightning.cli.entry import compose_or_explain
from nft_lightning.cli.plan import main
from nft_lightning.errors import UserError
from nft_lightning.planning.plan import plan_of

SEVEN = ("model=hf", "model.path=Qwen/Qwen2.5-Math-7B", "trainer=gpu", "rollout=vllm")
LONG = ("rollout.max_new_tokens=3584", "rollout.problems_per_rollout=512")
HALF = ("model=hf", "model.path=Qwen/Qwen2.5-0.5B", "trainer=gpu")


def strategy(name: str) -> str:
    return f"+trainer.strategy={name}"


def part(found, phase: str, name: str) -> float:
    return found["memory_gib"][phase][name]


@pytest.fixture
def command(monkeypatch):
    """nft-plan in this process."""

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["nft-plan", *arguments])
        main()

    return run


def test_the_command_prints_a_table_and_json(command, capsys):
    command(*HALF, "plan.gpu=l40s")
    table = capsys.readouterr().out
    assert "494,032,768 parameters; 1 x l40s, single" in table
    for word in ("optimizer states", "forward and backward", "fits", "PFLOPs", "GPU-hours", "assumed"):
        assert word in table
    command(*HALF, "plan.gpu=l40s", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 494_032_768
    assert found["gpu_facts"]["source"]


@pytest.mark.slow
def test_help_has_an_example():
    command = [sys.executable, "-m", "nft_lightning.cli.plan", "--help"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "nft-plan experiment=qwen2.5_math_7b" in found.stdout


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("plan.gpu=h1000", "plan.gpu='h1000' is not in the table: use one of rtx4090"),
        ("plan.gpu_count=3", "plan.gpu_count='3' is not a known key"),
        ("trainer.precision=64-true", "trainer.precision='64-true' cannot be planned"),
    ],
)
def test_bad_input_is_one_sentence(command, capsys, argument, sentence):
    with pytest.raises(SystemExit) as ended:
        command(argument)
    assert ended.value.code == 2
    found = capsys.readouterr().err
    assert sentence in found
    assert found.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan.training_utilization=1.5"], r"plan\.training_utilization=1\.5 is outside"),
        (["plan.gpus=0"], r"plan\.gpus=0 is below 1"),
        (["plan.longest_prompt_tokens=10"], "is below plan.mean_prompt_tokens=150"),
        (["plan.format=xml"], "is not known: use one of table, json"),
        (["model=hf", "model.path=org/none"], "has no config on this machine"),
        (["model=hf"], r"model\.path='\?\?\?' has no value"),
        (["model=smollm2"], "has no path to a config"),
        ([strategy("horovod")], "cannot be planned"),
        (["trainer.devices=auto"], "is not a number of GPUs"),
        (["++optimizer.name=sgd"], "sgd"),
        (["++optimizer.name=adamw_8bit", "trainer.precision=bf16-true"], "steps on weights of 16 bits"),
        (["+rollout.engine.rows=3"], "did you mean|use one of"),
        (["rollout=vllm", "rollout.engine.dtype=int8"], r"rollout\.engine\.dtype='int8' is not a type"),
    ],
)
def test_what_can_not_be_planned(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        plan_of(compose_or_explain("plan", arguments))


def test_static_memory_by_strategy(plan):
    # 16 bytes a parameter in fp32 with AdamW, DDP's buckets aside; shards are eighths.
    numbers = 494_032_768 / 2**30
    static = {}
    for name in ("ddp", "fsdp2"):
        found = plan(*HALF, strategy(name), "plan.gpus=8")
        static[name] = [
            part(found, "forward and backward", p) for p in ("weights", "gradients", "optimizer states")
        ]
    assert static["ddp"] == pytest.approx([4 * numbers, 4 * numbers, 8 * numbers], abs=2e-3)
    assert static["fsdp2"] == pytest.approx([x / 8 for x in static["ddp"]], abs=2e-3)


def test_each_option_saves_what_it_should(plan):
    base = plan(*HALF)
    phase = "forward and backward"
    assert (
        part(plan(*HALF, checkpointing=True), phase, "activations")
        < part(base, phase, "activations") / 4
    )
    small = plan(*HALF, "policy.logprobs=plain", "batching.max_tokens_per_micro_batch=4096")
    plain = plan(*HALF, "policy.logprobs=plain")
    fused = plan(*HALF, "policy.logprobs=fused")
    assert part(small, phase, "total") < part(plain, phase, "total")
    assert part(plain, phase, "logits and log-probabilities") > 4 * part(
        fused, phase, "logits and log-probabilities"
    )
    pure = plan(*HALF, "trainer.precision=bf16-true")
    assert part(pure, phase, "weights") == pytest.approx(part(base, phase, "weights") / 2, abs=2e-3)
    assert part(pure, phase, "gradients") == pytest.approx(part(base, phase, "gradients") / 2, abs=2e-3)
    # fp32 masters beside fp32 moments; the step widens gradients.
    assert part(pure, phase, "optimizer states") == pytest.approx(12 * 494_032_768 / 2**30, abs=2e-3)
    assert part(pure, "optimizer step", "gradients") == pytest.approx(
        part(base, "optimizer step", "gradients"), abs=2e-3
    )
    eight = plan(*HALF, "++optimizer.name=adamw_8bit")
    assert part(eight, phase, "optimizer states") < part(base, phase, "optimizer states") / 3
    offloaded = plan(*HALF, "++optimizer.name=adamw_cpu_offload")
    assert part(offloaded, phase, "optimizer states") == 0


def test_lora_trains_and_quantizes(plan):
    lora = plan(*HALF, "++policy.lora_rank=16")
    four = plan(*HALF, "++policy.lora_rank=16", "++policy.quantize=4bit")
    assert lora["trainable_parameters"] == 8_798_208
    phase = "forward and backward"
    pure = plan(*HALF, "++policy.lora_rank=16", "trainer.precision=bf16-true")
    for name in ("gradients", "optimizer states"):
        assert part(pure, phase, name) == part(lora, phase, name)
    assert part(lora, phase, "optimizer states") < 0.1
    assert part(four, phase, "weights") < part(lora, phase, "weights") / 2


@pytest.mark.parametrize(
    ("target", "bytes_each"),
    [
        ("torch.optim.SGD,lr:0.1", 0),
        ("torch.optim.SGD,momentum:0.9", 4),
        ("torch.optim.Adam", 8),
        ("torch.optim.Adafactor", 4 * 2 * 256 / 256**2),
    ],
)
def test_an_optimizer_of_ones_own_is_tried(plan, target, bytes_each):
    own = f"optimizer.custom={{_target_:{target},_partial_:true}}"
    found, usual = plan("trainer.strategy=auto", own), plan("trainer.strategy=auto")
    phase = "optimizer step"
    numbers = part(usual, phase, "optimizer states") / 8
    assert part(found, phase, "optimizer states") == pytest.approx(bytes_each * numbers, abs=2e-3)
    assert found["iteration"]["seconds"]["optimizer"] == pytest.approx(
        usual["iteration"]["seconds"]["optimizer"] * (12 + 2 * bytes_each) / 28, rel=0.05, abs=2e-3
    )


def test_what_an_algorithm_needs(plan):
    phase = "old log-probabilities"
    nft, near = plan(*HALF), plan(*HALF, "algorithm.kl_coefficient=0.1")
    assert part(nft, phase, "reference and critic") == 0
    assert part(near, phase, "reference and critic") == pytest.approx(
        part(near, phase, "weights"), abs=2e-3
    )
    assert 0 < part(plan(*HALF, "algorithm=ppo"), phase, "reference and critic") < 0.1
    head, own = (plan(*HALF, "algorithm=ppo", f"algorithm.critic={kind}") for kind in ("head", "own"))
    update = "forward and backward"
    for name, more in (("gradients", "gradients"), ("reference and critic", "weights")):
        grown = part(own, update, name) - part(head, update, name)
        assert 0.5 * part(head, update, more) < grown <= part(head, update, more) + 2e-3
    assert part(own, update, "optimizer states") > 1.5 * part(head, update, "optimizer states")
    assert part(own, update, "activations") > 1.5 * part(head, update, "activations")
    flops = [found["iteration"]["flops"]["training"] for found in (head, own)]
    assert 1.5 * flops[0] < flops[1] < 2 * flops[0]
    grpo = plan(*HALF, "algorithm=grpo")
    assert grpo["iteration"]["completions"] == 64 * 8 < nft["iteration"]["completions"]
    # Uniform groups: GRPO has them without computing them, PPO learns from them, NFT asks for others.
    trained = {
        name: plan(*HALF, f"algorithm={name}")["iteration"]["trained_tokens"] for name in ("grpo", "ppo")
    }
    assert trained["grpo"] == pytest.approx(0.6 * trained["ppo"], rel=0.01)
    assert nft["iteration"]["trained_tokens"] == pytest.approx((1 - 0.4**2) * trained["ppo"], rel=0.01)
    sft = plan(*HALF, "algorithm=sft", "problems=jsonl", "problems.path=x")
    assert sft["iteration"]["completions"] == 0
    whole, free = plan(*HALF, "algorithm=infonca", *LONG), plan(*HALF, *LONG)
    assert part(whole, "forward and backward", "activations") > 3 * part(
        free, "forward and backward", "activations"
    )


def test_a_teacher_has_its_own_size(plan):
    phase, part_of_it = "old log-probabilities", "reference and critic"
    found = {
        name: plan(*HALF, "algorithm=distillation", f"algorithm.teacher_path=Qwen/{name}")
        for name in ("Qwen2.5-1.5B", "Qwen2.5-7B")
    }
    small, large = found.values()
    # 1.54 and 7.62 billion parameters, stored as the policy is: in 32 bits.
    assert part(small, phase, part_of_it) == pytest.approx(1.544e9 * 4 / 2**30, rel=0.01)
    assert part(large, phase, part_of_it) == pytest.approx(7.616e9 * 4 / 2**30, rel=0.01)
    assert large["iteration"]["flops"][phase] > 2 * small["iteration"]["flops"][phase]
    lora = plan(
        *HALF, "algorithm=distillation", "algorithm.teacher_path=Qwen/Qwen2.5-7B", "policy.lora_rank=8"
    )
    assert part(lora, phase, part_of_it) == part(large, phase, part_of_it)


def test_the_engine(plan):
    asleep, awake = plan(*SEVEN, *LONG), plan(*SEVEN, *LONG, "rollout.engine.sleep=false")
    for phase, there in (("rollout", True), ("sync", True), ("forward and backward", False)):
        assert bool(part(asleep, phase, "engine copy")) == there
        assert part(awake, phase, "engine copy") > 0
    share = part(asleep, "rollout", "engine copy") + part(asleep, "rollout", "KV cache")
    assert share == pytest.approx(0.4 * 79.2, abs=0.01)
    half = plan(*SEVEN, *LONG, "rollout.engine.dtype=bfloat16")
    weights = 7_615_616_512 / 2**30
    single = plan(*SEVEN, *LONG, "rollout.engine.dtype=float32")
    assert part(single, "sync", "engine copy") == pytest.approx(4 * weights + 1.5, abs=0.01)
    for like in (half, asleep):
        assert part(like, "sync", "engine copy") == pytest.approx(2 * weights + 1.5, abs=0.01)
    sharded = (strategy("fsdp2"), "plan.gpus=8")
    assert part(plan(*SEVEN, *LONG, *sharded), "sync", "engine copy") == part(
        asleep, "sync", "engine copy"
    )
    four = plan(*SEVEN, *LONG, "rollout.engine.tensor_parallel_size=4", "plan.gpus=8")
    assert part(four, "rollout", "KV cache") > part(asleep, "rollout", "KV cache")
    assert "do not divide" in plan(*SEVEN, *LONG, "rollout.engine.tensor_parallel_size=3")["problem"]
    small = plan(*SEVEN, *LONG, "rollout.engine.gpu_memory_utilization=0.2")
    assert "is below" in small["problem"]
    assert not small["fits"]
    server = plan(
        "model=hf", "model.path=Qwen/Qwen2.5-Math-7B", "trainer=gpu", "rollout=vllm_server", *LONG
    )
    assert part(server, "rollout", "engine copy") == 0


def test_an_engine_in_a_process_of_its_own_has_a_copy(plan):
    given = ("model=hf", "model.path=Qwen/Qwen2.5-Math-7B", "trainer=gpu", "rollout=hf", *LONG)
    own = plan(*given, "rollout.engine.process=own")
    assert part(own, "rollout", "engine copy") == pytest.approx(4 * 7_615_616_512 / 2**30, rel=0.01)
    assert part(plan(*given), "rollout", "engine copy") == 0


def test_the_first_change_that_makes_it_fit(plan):
    assert plan(*HALF)["remedy"] is None
    four = ("plan.gpu=rtx4090", "policy.logprobs=plain", "rollout.engine.max_rows=64")
    found = plan(*HALF, *four, "batching.max_tokens_per_micro_batch=16384")
    assert not found["fits"]
    assert found["remedy"].startswith(("policy.gradient_checkpointing=true", "batching.max_tokens"))
    sharded = plan(*SEVEN, *LONG, "plan.gpus=8", checkpointing=True)
    assert sharded["remedy"] == "++trainer.strategy=fsdp2"
    assert plan(*SEVEN, *LONG, strategy("fsdp2"), "plan.gpus=8", checkpointing=True)["fits"]
    many = plan(*SEVEN, *LONG, "plan.gpu=rtx4090", "rollout=vllm_server")["remedy"]
    assert "policy.gradient_checkpointing=true" in many
    assert "lora" in many


def test_more_gpus_take_less_time_and_never_less_than_a_share(plan):
    hours = [
        plan(*SEVEN, *LONG, strategy("fsdp2"), f"plan.gpus={n}", checkpointing=True) for n in (8, 16, 64)
    ]
    seconds = [h["iteration"]["total_seconds"] for h in hours]
    assert seconds == sorted(seconds, reverse=True)
    assert hours[0]["gpu_hours"] <= hours[1]["gpu_hours"] <= hours[2]["gpu_hours"]
    slow = plan(
        *SEVEN, *LONG, strategy("fsdp2"), "plan.gpus=64", "plan.network_gb_s=1", checkpointing=True
    )
    assert slow["iteration"]["seconds"]["training"] > hours[2]["iteration"]["seconds"]["training"]


def test_no_weights_and_no_network(plan, monkeypatch):
    import socket

    def refuse(*_: object, **__: object):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert plan(*HALF)["parameters"] == 494_032_768
