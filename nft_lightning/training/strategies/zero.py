"""DeepSpeed's ZeRO 2 and 3: its engine shards and steps, the rest of the run stays as it is."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from nft_lightning.distributed.private_deepspeed import compile_nothing
from nft_lightning.distributed.shards import gradient_part, on_host
from nft_lightning.policy.policy import Policy
from nft_lightning.policy.precision import cast_to_half
from nft_lightning.training.private_lightning import before_step
from nft_lightning.training.strategies.zero_state import load_optimizer, load_tensor, whole_optimizer

log = logging.getLogger(__name__)


class ZeRO(DDPStrategy):
    """``trainer.strategy=deepspeed_stage_2`` or ``_3`` (arXiv 1910.02054), with the deepspeed library.

    Stage 2 shards gradients and optimizer state over the ranks, stage 3 the parameters as well.
    Lightning's own strategy for it wraps the whole module, leaves clipping to the engine and writes
    checkpoints that the same number of ranks must read. Here the engine holds what trains and nothing
    else, :func:`nft_lightning.distributed.shards.clip_gradients` clips before it steps, and checkpoints
    are those of one process, written by the first rank.
    """

    def __init__(self, stage: int) -> None:
        super().__init__()
        self.stage = stage
        self.engine: Any = None
        self.groups: list[list[nn.Parameter]] = []
        self.schedules: list[Any] = []

    @property
    def shards_parameters(self) -> bool:
        """Return whether parameters are whole only within a forward pass."""
        return self.stage == 3

    @property
    def module(self) -> Any:
        """Return the LightningModule."""
        return self.lightning_module

    def setup(self, trainer: L.Trainer) -> None:
        """The engine is made once, for evaluation and training alike."""
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        if self.engine is None:
            self.shard()
        self.optimizers, self.lr_scheduler_configs = [self.engine.optimizer], self.schedules
        self.setup_precision_plugin()
        self.barrier()

    def shard(self) -> None:
        """Make the engine; stage 3 cuts a frozen policy as well."""
        deepspeed = imported(self.root_device)
        policy, reference = self.module.policy, self.module.frozen.copy
        stored = next(policy.parameters()).dtype
        given = {"config": engine_config(self.stage, stored), "dist_init_required": False}
        trained = nn.ModuleList(self.module.trained)
        if stored != torch.float32:
            # ZeRO wants one type: critic and adapters become bf16 too. Masters are fp32 in any case.
            cast_to_half(trained, stored)
        if self.stage == 3:
            for part in (trained, reference):
                if part is not None:
                    deepspeed.zero.Init(module=part, config_dict_or_path=given["config"])
        self.model_to_device()
        self.setup_optimizers(self.module.trainer)
        (optimizer,), self.schedules = self.optimizers, self.lr_scheduler_configs
        self.groups = [list(group["params"]) for group in optimizer.param_groups]
        self.engine = deepspeed.initialize(model=trained, optimizer=optimizer, **given)[0]
        if self.stage == 3:
            begin_where_it_runs(policy, self.engine.optimizer.parameter_offload)
            gather_head(deepspeed, policy)
            if reference is not None:
                deepspeed.initialize(model=reference.to(self.root_device), **given)
                gather_head(deepspeed, reference)

    def begin_micro_batch(self, last: bool) -> None:
        """What the engine does where it runs the forward pass itself; ``last`` of its step."""
        self.engine.optimizer.clear_backward_seen_flag()
        self.engine.set_gradient_accumulation_boundary(last)

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """By the engine, which averages gradients over the ranks."""
        loss = self.precision_plugin.pre_backward(closure_loss, self.module)
        self.engine.backward(loss)
        return self.precision_plugin.post_backward(loss, self.module)

    def optimizer_step(
        self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> None:
        """By the engine, after the callbacks that wait for it."""
        closure()
        before_step(self.precision_plugin, self.module, optimizer)
        self.engine.step()

    def discard_gradients(self) -> None:
        """Leave a step out, as the engine does by itself where a gradient is not finite."""
        if self.is_global_zero:
            part = gradient_part(self.groups[0][0])
            assert part is not None
            part[:1] = float("inf")
        self.engine.step()

    def teardown(self) -> None:
        """Nothing leaves its device: parameters look into flat memory that would be left behind."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Return the engine is there before a checkpoint is read."""
        return True

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands the states to :meth:`load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return every tensor whole, on the host of the first rank; empty elsewhere."""
        state = dict(self.module.state_dict(keep_vars=True))
        found: dict[str, Any] = on_host(state, keep=self.is_global_zero)
        return found if self.is_global_zero else {}

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """As :meth:`lightning_module_state_dict`."""
        return whole_optimizer(self.engine.optimizer, self.groups, keep=self.is_global_zero)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each rank keeps its part of every tensor."""
        given, own = checkpoint["state_dict"], self.module.state_dict(keep_vars=True)
        if strict and given.keys() != own.keys():
            names = sorted(given.keys() ^ own.keys())
            raise RuntimeError(f"the checkpoint holds other tensors than the run: {', '.join(names)}")
        for name, tensor in given.items():
            load_tensor(own[name], tensor)
        self.engine.optimizer.refresh_fp32_params()

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each rank keeps its part of every moment."""
        load_optimizer(self.engine.optimizer, self.groups, checkpoint["optimizer_states"][0])


def imported(device: torch.device) -> Any:
    """Return the library, which asks the environment for its device, with only warnings on the
    screen.
    """
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    if device.type == "cpu":
        compile_nothing()
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    with contextlib.redirect_stdout(io.StringIO()):
        deepspeed.init_distributed(dist_init_required=False, auto_mpi_discovery=False, verbose=False)
    return deepspeed


def engine_config(stage: int, stored: torch.dtype) -> dict[str, Any]:
    """Gradients are added up in fp32, and not clipped; bf16 weights have fp32 masters."""
    half = stored == torch.bfloat16
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,
        "bf16": {"enabled": half, "check_grad_overflow": half},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
    }


def begin_where_it_runs(policy: Policy, offload: Any) -> None:
    """A pass begins with the policy: DeepSpeed's root is a list of modules, which never runs itself."""
    policy.register_forward_pre_hook(
        lambda *_: offload.get_param_coordinator().reset_step(), prepend=True
    )


def gather_head(deepspeed: Any, policy: Policy) -> None:
    """The head's weight is whole wherever the policy runs: fused log-probabilities use it directly."""
    if policy.fused is not None:
        linear: Any = policy.model.get_output_embeddings()  # type: ignore[operator]
        for parameter in linear.parameters():
            deepspeed.zero.register_external_parameter(policy, parameter)
