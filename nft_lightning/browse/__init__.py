"""nft-browse: a local page over the rollouts and evaluations of runs."""
