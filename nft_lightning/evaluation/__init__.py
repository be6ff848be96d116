"""nft-eval: a model on benchmark sets; every answer is stored once, and numbers come with intervals."""
