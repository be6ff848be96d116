"""The algorithms: tensors in, tensors out."""

from nft_lightning.objectives.base import Objective, Outcomes
from nft_lightning.objectives.contract import ObjectiveOutput, RequiredInputs
from nft_lightning.objectives.distillation import Distillation
from nft_lightning.objectives.dpo import DPO, InfoNCA
from nft_lightning.objectives.gates import CISPO, DPPO, SAPO
from nft_lightning.objectives.grpo import DAPO, GRPO, DrGRPO, MaxRL, REINFORCEPlusPlusBaseline
from nft_lightning.objectives.nft import NFT, RFT, ContinuousNFT
from nft_lightning.objectives.ppo import PPO
from nft_lightning.objectives.reinforce import DRO, GPG, REINFORCE, RLOO, AsymRE
from nft_lightning.objectives.sequence import GMPO, GSPO, LUSPO, VESPO
from nft_lightning.objectives.sft import SFT
from nft_lightning.objectives.signed import NSR, PSR, TOPR, WeightedREINFORCE

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
    "AsymRE",
    "ContinuousNFT",
    "Distillation",
    "DrGRPO",
    "InfoNCA",
    "MaxRL",
    "Objective",
    "ObjectiveOutput",
    "Outcomes",
    "REINFORCEPlusPlusBaseline",
    "RequiredInputs",
    "WeightedREINFORCE",
]
