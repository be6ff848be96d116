"""The algorithms: tensors in, tensors out."""

from nft_lightning.objectives.base import Objective, ObjectiveOutput, Outcomes, Requires
from nft_lightning.objectives.clipped import DAPO, GRPO, DrGRPO
from nft_lightning.objectives.likelihood import NFT, RFT

__all__ = [
    "DAPO",
    "GRPO",
    "NFT",
    "RFT",
    "DrGRPO",
    "Objective",
    "ObjectiveOutput",
    "Outcomes",
    "Requires",
]
