"""nft-compare: many runs under equal conditions, paired, with intervals."""
