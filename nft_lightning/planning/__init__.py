"""nft-plan: the memory and time that a run would need, computed from its config."""
