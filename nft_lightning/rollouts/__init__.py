"""From problems to a rollout: ask the engine, verify, keep or refill groups, check that weights arrived.

``collector`` is the entry; a rollout is one epoch's groups.
"""
