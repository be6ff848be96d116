"""Verifiers score completions: right, wrong, or one of the reasons why there is no verdict.

``base`` is the protocol; ``math`` holds the verifier of mathematical answers and its sandbox.
"""
