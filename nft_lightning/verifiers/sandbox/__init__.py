"""Scoring in worker processes that can be killed: at a deadline, or when memory runs out.

``pool`` is the trainer's side; ``worker`` says what a scorer is.
"""
