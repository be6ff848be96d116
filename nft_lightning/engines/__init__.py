"""Engines write completions: transformers in the process, vLLM in the process, or vLLM servers.

``base`` is the protocol that each of them follows; ``weight_sync`` hands them the policy's weights.
"""
