"""Verifiers score completions: right, wrong, or one of the reasons why there is no verdict.

``base`` is the protocol; ``sandbox`` holds workers that can be killed; ``math`` and
``gym`` are the verifiers of mathematical answers and of reasoning-gym's problems.
"""
