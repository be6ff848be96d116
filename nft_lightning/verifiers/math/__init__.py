"""The verifier of mathematical answers: reading, comparing, and the processes it does so in.

Whatever a model writes is parsed in worker processes that can be killed.
"""
