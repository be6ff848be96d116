"""The verifier of mathematical answers: reading and comparing.

Whatever a model writes is parsed in the workers of ``sandbox``.
"""
