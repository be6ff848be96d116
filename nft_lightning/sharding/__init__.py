"""Strategies of Lightning's that cut the policy over the ranks, with whole checkpoints."""
