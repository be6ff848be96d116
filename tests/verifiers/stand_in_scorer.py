"""A scorer whose verdict is up to the answer."""

from __future__ import annotations

import time

from nft_lightning.verdict import Verdict


def judge(how: str, answer: str, gold: str) -> Verdict:
    if answer == "hang":
        time.sleep(600)
    if answer == "raise":
        raise ValueError("on purpose")
    return Verdict("wrong", score=0.5)


def prepare() -> list:
    return []
