"""Cases on the divergence from the reference policy."""

from __future__ import annotations

import math

import torch

from nft_lightning.objectives import GRPO
from tests.conformance.replay import Case, kl, kl_slope, losses

SKYRL = "SkyRL a956457, test_ppo_utils.py"
NEMO = "NeMo-RL 7ea279a, test_loss_functions.py"
OPENRLHF = "OpenRLHF 0.11.2, test_kl_estimator_gradient.py"
EXTREME = [-100.0, -90.0, -11.0, -10.0, -3.0, -1.0, -0.1, 0.0]


def nan_under_the_mask():
    made = losses(
        GRPO(kl_coefficient=1.0),
        [[0.2, 0.3, 0.5, 0.7]],
        [[0.2, 0.3, 0.5, 0.7]],
        [[0.0] * 4],
        mask=[[1, 1, 1, 0]],
        reference_logprobs=[[0.1, 0.2, 0.4, math.nan]],
    )
    return made[0, 3:]


CASES = [
    Case(
        source=SKYRL,
        name="test_compute_approx_kl",
        what="k2 and k3 of two tokens",
        theirs=[0.005, 0.005, 0.0048374, 0.0048374],
        ours=lambda: torch.cat([kl([[0.2, 0.3]], [[0.1, 0.2]], k) for k in ("k2", "k3")]),
    ),
    Case(
        source=SKYRL,
        name="test_compute_approx_kl_applies_loss_mask",
        what="k3 of a masked token whose reference is NaN",
        theirs=[0.0],
        ours=nan_under_the_mask,
    ),
    *(
        Case(
            source=NEMO,
            name=f"test_calculate_kl[{estimator}]",
            what="estimates of three tokens",
            theirs=values,
            ours=lambda estimator=estimator: kl([[-1.0] * 3], [[0.0, -15.0, -30.0]], estimator),
        )
        for estimator, values in (
            ("k1", [-1.0, 14.0, 29.0]),
            ("k2", [0.5, 98.0, 420.5]),
            ("k3", [0.7183, 13.0, 28.0]),
        )
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_kl_gradient_includes_sampling_term",
        what="gradient of 0.3 times the mean k3, corrected",
        theirs=[-0.045, 0.06],
        ours=lambda: kl_slope([[-1.2, -0.7]], [[-1.0, -0.8]], [[-0.9, -1.1]], "k3_unbiased", 0.3 / 2),
        here=[-0.045 * math.exp(-0.2), 0.06 * math.exp(0.1)],
        convention="weighed by R; theirs by 1 unless use_on_policy_kl_approximation is set",
    ),
    Case(
        source=OPENRLHF,
        name="test_k3_extreme_finite_log_probs_match_clipped_reference[corrected]",
        what="gradient of k3, corrected, on policy",
        theirs=EXTREME,
        ours=lambda: kl_slope([EXTREME], [EXTREME], [[0.0] * 8], "k3_unbiased", 1.0),
    ),
]
