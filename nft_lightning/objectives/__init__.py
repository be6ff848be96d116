"""The algorithms: tensors in, tensors out."""

from nft_lightning.objectives.actor_critic import PPO
from nft_lightning.objectives.base import Objective, ObjectiveOutput, Outcomes, RequiredInputs
from nft_lightning.objectives.clipped import DAPO, GRPO, DrGRPO, MaxRL, REINFORCEPlusPlusBaseline
from nft_lightning.objectives.likelihood import NFT, RFT, ContinuousNFT
from nft_lightning.objectives.preference import DPO, InfoNCA
from nft_lightning.objectives.reference import SFT
from nft_lightning.objectives.reinforce import CISPO, GPG, REINFORCE, RLOO
from nft_lightning.objectives.sequence import GSPO
from nft_lightning.objectives.signed import NSR, PSR, TOPR, WeightedREINFORCE

__all__ = [
    "CISPO",
    "DAPO",
    "DPO",
    "GPG",
    "GRPO",
    "GSPO",
    "NFT",
    "NSR",
    "PPO",
    "PSR",
    "REINFORCE",
    "RFT",
    "RLOO",
    "SFT",
    "TOPR",
    "ContinuousNFT",
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
