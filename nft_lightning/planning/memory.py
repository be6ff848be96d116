"""Bytes on one GPU, by part and phase of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

from nft_lightning.engines.weight_sync import ENGINE_DTYPES
from nft_lightning.planning.setting import CUSTOM, Setting
from nft_lightning.planning.trace import Pass, cost
from nft_lightning.training.strategies.choice import FSDP2

GIB = 2**30
PARTS = (
    "weights",
    "gradients",
    "optimizer states",
    "activations",
    "logits and log-probabilities",
    "reference and critic",
    "engine copy",
    "KV cache",
    "buffers",
)
# vLLM's own activations and CUDA graphs, inside its share.
ENGINE_WORKING_BYTES = 1.5 * GIB
# bitsandbytes: NF4 with doubly quantized scales; 8-bit moments with a scale for each 256.
NF4_BYTES, EIGHT_BIT_STATES_BYTES = 0.5 + 0.016, 2 * (1 + 4 / 256)
# Log-softmax, probabilities and their sum over a vocabulary, beside the logits, in fp32.
SAMPLER_COPIES = 4
# AdamW's numbers are fp32, whatever the parameters are.
MASTER_BYTES = 4

Phase = dict[str, float]


@dataclass(frozen=True)
class Memory:
    """Bytes by phase and part; ``problem`` says what cannot work at any size, or is empty."""

    phases: dict[str, Phase]
    problem: str

    def total(self, phase: str) -> float:
        """Return bytes of a phase."""
        return sum(self.phases[phase].values())

    @property
    def fullest(self) -> str:
        """Return the phase that needs most."""
        return max(self.phases, key=self.total)


def fits(memory: Memory, setting: Setting) -> bool:
    """Return whether the fullest phase leaves the assumed overhead free."""
    room = (setting.assumed.type.memory_gib - setting.assumed.overhead_gib) * GIB
    return not memory.problem and memory.total(memory.fullest) <= room


def planned(setting: Setting) -> Memory:
    """Return all phases of an epoch."""
    base = {"weights": weights(setting), "optimizer states": states(setting)}
    if setting.reference or setting.values:
        base["reference and critic"] = reference(setting)
    resting, writing, problem = engine(setting)
    for part, size in resting.items():
        base[part] = base.get(part, 0.0) + size
    forward, whole = cost(setting.passing(gradient=False)), cost(setting.passing())
    numbers = trainable(setting) / (setting.gpus if setting.strategy == FSDP2 else 1)
    gradients = numbers * trained_bytes(setting)
    # Those of masters are as wide as they are.
    widened = numbers * max(trained_bytes(setting), MASTER_BYTES if setting.optimizer == "adamw" else 0)
    buffers = gathered(setting)
    phases = {
        "rollout": {**base, **writing},
        "old log-probabilities": {
            **base,
            "activations": forward.activations,
            "logits and log-probabilities": forward.logits,
            "buffers": buffers,
        },
        "forward and backward": {
            **base,
            "gradients": gradients,
            # A critic of its own goes forward while the policy's pass is kept.
            "activations": whole.activations + (whole.body if setting.own_critic else 0.0),
            "logits and log-probabilities": whole.logits,
            "buffers": buffers + exchanged(setting),
        },
        "optimizer step": {**base, "gradients": widened, "buffers": step_buffers(setting, widened)},
        "sync": {
            **base,
            **{k: v for k, v in writing.items() if k == "engine copy"},
            "buffers": moved(setting),
        },
    }
    return Memory(phases, problem)


def trainable(setting: Setting) -> float:
    """Return numbers that the optimizer holds, those of a critic of its own included."""
    shape = setting.architecture
    if setting.own_critic:
        return shape.parameters + shape.trunk_parameters
    return shape.lora_parameters(setting.lora_rank) if setting.lora_rank else shape.parameters


def trained_bytes(setting: Setting) -> int:
    """Of a trained number: LoRA's are fp32 whatever they are beside."""
    return MASTER_BYTES if setting.lora_rank else setting.stored.itemsize


def has_masters(setting: Setting) -> bool:
    """Return whether the optimizer keeps fp32 copies on the GPU of what it trains."""
    return setting.optimizer == "adamw" and trained_bytes(setting) < MASTER_BYTES


def weights(setting: Setting) -> float:
    """Return the trainer's parameters."""
    shape, size = setting.architecture, setting.stored.itemsize
    own = shape.parameters * float(size)
    if setting.quantized:
        own -= shape.linear_parameters * (size - NF4_BYTES)
    if setting.lora_rank:
        own += trainable(setting) * trained_bytes(setting)
    return own / (setting.gpus if setting.strategy == FSDP2 else 1)


def states(setting: Setting) -> float:
    """AdamW's moments and masters, or what an optimizer of one's own keeps."""
    numbers = trainable(setting)
    each = {
        "adamw": 2.0 * MASTER_BYTES + (MASTER_BYTES if has_masters(setting) else 0),
        "adamw_8bit": EIGHT_BIT_STATES_BYTES,
        "adamw_paged_8bit": EIGHT_BIT_STATES_BYTES,
        "adamw_cpu_offload": 0.0,
        CUSTOM: setting.state_bytes,
    }[setting.optimizer]
    return numbers * each / (setting.gpus if setting.strategy == FSDP2 else 1)


def reference(setting: Setting) -> float:
    """Return what scores beside the policy: the teacher or the frozen policy (which LoRA has without a
    copy), and the critic (the weights of its trunk, and its value head with optimizer states).
    """
    shape, size = setting.architecture, setting.stored.itemsize
    copy = 0.0 if setting.frozen_copy is None else setting.frozen_copy.parameters * float(size)
    head = (shape.config.hidden_size + 2) * shape.config.hidden_size * 16.0 if setting.values else 0.0
    trunk = shape.trunk_parameters * float(size) if setting.own_critic else 0.0
    return copy / (setting.gpus if setting.strategy == FSDP2 else 1) + head + trunk


def gathered(setting: Setting) -> float:
    """Return what a pass needs of sharded parameters: the root for as long as it runs, two layers in
    turn.
    """
    shape, size = setting.architecture, setting.computed.itemsize
    if setting.strategy != FSDP2:
        return 0.0
    return (shape.root_parameters + 2 * shape.layer_parameters) * float(size)


def exchanged(setting: Setting) -> float:
    """Gradients on their way to the other ranks."""
    shape, size = setting.architecture, setting.computed.itemsize
    if setting.strategy == "ddp":
        return trainable(setting) * float(trained_bytes(setting))
    if setting.strategy != FSDP2 or setting.lora_rank:
        return 0.0
    # The root's are whole until the pass ends; a layer's are cast to fp32 and sent at once.
    return shape.root_parameters * float(size) + shape.layer_parameters * float(size + 4)


def step_buffers(setting: Setting, gradients: float) -> float:
    """AdamW over lists of tensors makes one more number for each parameter."""
    kept = exchanged(setting) if setting.strategy == "ddp" else 0.0
    return kept + (gradients if setting.optimizer == "adamw" else 0.0)


def moved(setting: Setting) -> float:
    """Return the largest tensor, whole, and cast to vLLM's type."""
    size = setting.stored.itemsize if setting.strategy == FSDP2 else 0
    if setting.engine != "hf" and played(setting) < setting.stored.itemsize:
        size += played(setting)
    return float(setting.architecture.head_parameters * size)


def engine(setting: Setting) -> tuple[Phase, Phase, str]:
    """Return what the engine holds all the time, what it holds while it writes, and why it cannot
    work.
    """
    if setting.engine == "vllm_server" or not setting.generates:
        return {}, {}, ""
    return vllm(setting) if setting.engine == "vllm" else transformers(setting)


def played(setting: Setting) -> int:
    """Return bytes of a number in the engine's weights."""
    if setting.engine != "hf":
        named = ENGINE_DTYPES[setting.engine_options.get("dtype", "auto")]
        return (named or setting.computed).itemsize
    return (setting.computed if setting.strategy == FSDP2 else setting.stored).itemsize


def vllm(setting: Setting) -> tuple[Phase, Phase, str]:
    """Return a fixed share of the GPU."""
    options, shape = setting.engine_options, setting.architecture
    share = options["gpu_memory_utilization"] * setting.assumed.type.memory_gib * GIB
    own = engine_weights(setting)
    cache = share - own - ENGINE_WORKING_BYTES
    held = {"engine copy": own + ENGINE_WORKING_BYTES, "KV cache": max(0.0, cache)}
    parallel = options["tensor_parallel_size"]
    problem = ""
    if cache < setting.longest_row * key_value_bytes(setting):
        needed = (own + ENGINE_WORKING_BYTES + setting.longest_row * key_value_bytes(setting)) / GIB
        problem = f"vLLM's share of {share / GIB:.1f} GiB is below the {needed:.1f} that it needs"
    if setting.gpus % parallel:
        problem = f"{parallel} GPUs a copy of the engine do not divide {setting.gpus}"
    if shape.config.num_attention_heads % parallel:
        problem = f"{parallel} GPUs do not divide {shape.config.num_attention_heads} attention heads"
    return ({}, held, problem) if options["sleep"] else (held, {}, problem)


def engine_weights(setting: Setting) -> float:
    """Return bytes of vLLM's weights on a GPU."""
    parallel = setting.engine_options.get("tensor_parallel_size", 1)
    return setting.architecture.parameters * played(setting) / float(parallel)


def key_value_bytes(setting: Setting) -> float:
    """Return bytes of a cached token on a GPU."""
    size = setting.computed.itemsize if setting.engine == "hf" else played(setting)
    parallel = setting.engine_options.get("tensor_parallel_size", 1)
    spread = min(parallel, setting.architecture.config.num_key_value_heads)
    return setting.architecture.key_value_numbers * float(size) / spread


def transformers(setting: Setting) -> tuple[Phase, Phase, str]:
    """Return the trainer's own model; a whole copy of it beside shards or in a process of its own."""
    shape, rows = setting.architecture, rows_in_flight(setting)
    prompts = max(1, rows // setting.completions)
    passing = Pass(
        shape.name,
        prompts,
        setting.assumed.longest_prompt_tokens,
        setting.assumed.longest_prompt_tokens - 1,
        setting.passing(False).dtype,
        setting.autocast,
        gradient=False,
    )
    writing = {
        "activations": cost(passing).body,
        "logits and log-probabilities": rows * shape.config.vocab_size * 4.0 * SAMPLER_COPIES,
        "KV cache": rows * setting.longest_row * key_value_bytes(setting),
    }
    copied = setting.strategy == FSDP2 or setting.engine_options.get("process") == "own"
    copy = shape.parameters * float(played(setting)) if copied else 0.0
    return ({"engine copy": copy} if copy else {}), writing, ""


def rows_in_flight(setting: Setting) -> int:
    """Return completions that ``rollout=hf`` writes at a time on a GPU."""
    share = -(-setting.problems // setting.gpus) * setting.completions
    return int(min(max(setting.engine_options["max_rows"], setting.completions), share))
