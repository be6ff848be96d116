"""RL post-training of language models with verifiable rewards, on PyTorch Lightning.

Everything here is imported when it is first used::

    policy = load_policy("FOLDER_OR_HUB_NAME")
    data = RolloutDataModule(policy, JsonlProblems("train.jsonl"), MathVerifier(), max_new_tokens=512)
    lightning.Trainer(max_epochs=3).fit(PolicyModule(policy, NFT(), learning_rate=1e-6), data)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nft_lightning.app.cold_start import ColdStartConfig
    from nft_lightning.batching.config import BatchingConfig
    from nft_lightning.checkpoints.callback import Checkpoints
    from nft_lightning.checkpoints.run_state import ExactResume
    from nft_lightning.engines.hf.engine import HFEngineConfig
    from nft_lightning.engines.vllm.engine import VLLMEngineConfig
    from nft_lightning.engines.vllm_server.config import VLLMServerConfig
    from nft_lightning.errors import UserError
    from nft_lightning.objectives import (
        CISPO,
        DAPO,
        DPO,
        DPPO,
        DRO,
        GMPO,
        GPG,
        GRPO,
        GSPO,
        LUSPO,
        NFT,
        NSR,
        PPO,
        PSR,
        REINFORCE,
        RFT,
        RLOO,
        SAPO,
        SFT,
        TOPR,
        VESPO,
        AsymRE,
        ContinuousNFT,
        Distillation,
        DrGRPO,
        InfoNCA,
        MaxRL,
        Objective,
        Outcomes,
        REINFORCEPlusPlusBaseline,
        RequiredInputs,
        WeightedREINFORCE,
    )
    from nft_lightning.objectives.tensors import group_mean
    from nft_lightning.policy.config import PolicyConfig
    from nft_lightning.policy.loading import HFModel, SmolLM2Model, TinyModel
    from nft_lightning.policy.prepare import load_policy
    from nft_lightning.problems.arithmetic import ArithmeticProblems
    from nft_lightning.problems.listed import (
        HubProblems,
        JsonlProblems,
        ListedProblems,
        ReasoningGymProblems,
    )
    from nft_lightning.problems.prompts import PromptConfig
    from nft_lightning.problems.stories import StoryProblems
    from nft_lightning.rollouts.config import RolloutConfig
    from nft_lightning.rollouts.sync_check import SyncCheck
    from nft_lightning.training.config import EvaluationConfig, OptimizerConfig
    from nft_lightning.training.datamodule import RolloutDataModule
    from nft_lightning.training.module import PolicyModule
    from nft_lightning.training.strategies.fsdp2 import FullySharded
    from nft_lightning.training.strategies.zero import ZeRO
    from nft_lightning.types import Answer, Completion, Group, Problem, Signal, TokenLoss, Verdict
    from nft_lightning.verifiers.base import Verifier
    from nft_lightning.verifiers.function import FunctionVerifier
    from nft_lightning.verifiers.gym.verifier import ReasoningGymVerifier
    from nft_lightning.verifiers.math.verifier import MathVerifier
    from nft_lightning.verifiers.rewards import RewardRules
    from nft_lightning.verifiers.simple import ExactVerifier, NumericVerifier
    from nft_lightning.verifiers.weighted import WeightedVerifier

ROOMS = {
    "app.cold_start": "ColdStartConfig",
    "batching.config": "BatchingConfig",
    "checkpoints.callback": "Checkpoints",
    "checkpoints.run_state": "ExactResume",
    "engines.hf.engine": "HFEngineConfig",
    "engines.vllm.engine": "VLLMEngineConfig",
    "engines.vllm_server.config": "VLLMServerConfig",
    "errors": "UserError",
    "objectives": (
        "CISPO DAPO DPO DPPO DRO GMPO GPG GRPO GSPO LUSPO NFT NSR PPO PSR REINFORCE RFT RLOO SAPO "
        "SFT TOPR VESPO AsymRE ContinuousNFT Distillation DrGRPO InfoNCA MaxRL Objective Outcomes "
        "REINFORCEPlusPlusBaseline RequiredInputs WeightedREINFORCE"
    ),
    "objectives.tensors": "group_mean",
    "policy.config": "PolicyConfig",
    "policy.loading": "HFModel SmolLM2Model TinyModel",
    "policy.prepare": "load_policy",
    "problems.arithmetic": "ArithmeticProblems",
    "problems.listed": "HubProblems JsonlProblems ListedProblems ReasoningGymProblems",
    "problems.prompts": "PromptConfig",
    "problems.stories": "StoryProblems",
    "rollouts.config": "RolloutConfig",
    "rollouts.sync_check": "SyncCheck",
    "training.config": "EvaluationConfig OptimizerConfig",
    "training.datamodule": "RolloutDataModule",
    "training.module": "PolicyModule",
    "training.strategies.fsdp2": "FullySharded",
    "training.strategies.zero": "ZeRO",
    "types": "Answer Completion Group Problem Signal TokenLoss Verdict",
    "verifiers.base": "Verifier",
    "verifiers.function": "FunctionVerifier",
    "verifiers.gym.verifier": "ReasoningGymVerifier",
    "verifiers.math.verifier": "MathVerifier",
    "verifiers.rewards": "RewardRules",
    "verifiers.simple": "ExactVerifier NumericVerifier",
    "verifiers.weighted": "WeightedVerifier",
}
"""The public names, by the module that holds them."""

__all__ = [
    "CISPO",
    "DAPO",
    "DPO",
    "DPPO",
    "DRO",
    "GMPO",
    "GPG",
    "GRPO",
    "GSPO",
    "LUSPO",
    "NFT",
    "NSR",
    "PPO",
    "PSR",
    "REINFORCE",
    "RFT",
    "RLOO",
    "SAPO",
    "SFT",
    "TOPR",
    "VESPO",
    "Answer",
    "ArithmeticProblems",
    "AsymRE",
    "BatchingConfig",
    "Checkpoints",
    "ColdStartConfig",
    "Completion",
    "ContinuousNFT",
    "Distillation",
    "DrGRPO",
    "EvaluationConfig",
    "ExactResume",
    "ExactVerifier",
    "FullySharded",
    "FunctionVerifier",
    "Group",
    "HFEngineConfig",
    "HFModel",
    "HubProblems",
    "InfoNCA",
    "JsonlProblems",
    "ListedProblems",
    "MathVerifier",
    "MaxRL",
    "NumericVerifier",
    "Objective",
    "OptimizerConfig",
    "Outcomes",
    "PolicyConfig",
    "PolicyModule",
    "Problem",
    "PromptConfig",
    "REINFORCEPlusPlusBaseline",
    "ReasoningGymProblems",
    "ReasoningGymVerifier",
    "RequiredInputs",
    "RewardRules",
    "RolloutConfig",
    "RolloutDataModule",
    "Signal",
    "SmolLM2Model",
    "StoryProblems",
    "SyncCheck",
    "TinyModel",
    "TokenLoss",
    "UserError",
    "VLLMEngineConfig",
    "VLLMServerConfig",
    "Verdict",
    "Verifier",
    "WeightedREINFORCE",
    "WeightedVerifier",
    "ZeRO",
    "group_mean",
    "load_policy",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    for module, names in ROOMS.items():
        if name in names.split():
            found = getattr(importlib.import_module(f"nft_lightning.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'nft_lightning' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
