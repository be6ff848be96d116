"""Cases on importance weights against the engine and on sequence masks."""

from __future__ import annotations

import math

import torch

from nft_lightning.objectives import GRPO
from tests.conformance.replay import Case, kept, losses, mean, weights

SKYRL = "SkyRL a956457, test_off_policy_correction.py"
NEMO = "NeMo-RL 7ea279a, test_loss_functions.py"
VERL = "verl 1dda039, test_rollout_corr.py"
OPENRLHF = "OpenRLHF 0.11.2, test_loss_aggregation.py"
TRL = "TRL f2cd577, test_grpo_trainer.py"

TOKEN, SEQUENCE = {"correction_level": "token"}, {"correction_level": "sequence"}
TIS = {"correction": "truncate"}
REJECT = {"correction": "reject", "ratio_low": 0.5, "ratio_high": 2.0}
GEOMETRIC = {
    "correction": "reject",
    "correction_level": "geometric",
    "ratio_low": 0.9,
    "ratio_high": 1.1,
}
OLD, ENGINE = [[-1.0, -1.5, -0.5]], [[-1.5, -1.0, -1.5]]
ONES, TWOS = [[-1.0] * 3], [[-2.0] * 3]
NEAR = ([[-1.0, -1.1, -1.0]], [[-1.1, -1.0, -1.0]])
ADVANTAGES = [[1.0, -1.0, 2.0]]
UNCHANGED = [[-1.0] * 3]
PADDED = [[1, 1, 0, 0]]


def masked(low, high, level, engine):
    """The mean loss on policy under a mask."""
    objective = GRPO(
        importance_correction="mask",
        importance_correction_level=level,
        importance_ratio_low=low,
        importance_ratio_high=high,
    )
    return mean(losses(objective, UNCHANGED, UNCHANGED, ADVANTAGES, engine_logprobs=engine))


def sequence_masked():
    objective = GRPO(
        importance_correction="mask",
        importance_correction_level="geometric",
        importance_ratio_low=0.5,
        importance_ratio_high=5.0,
    )
    zeros, ones = [[0.0] * 2] * 2, [[1.0] * 2] * 2
    return mean(losses(objective, zeros, zeros, ones, engine_logprobs=[[-1.0, 1.0], [-2.0, -2.0]]))


def overflowing():
    objective = GRPO(importance_correction="mask", importance_ratio_high=5.0)
    zeros = [[0.0] * 2]
    return mean(losses(objective, zeros, zeros, [[1.0, 1.0]], engine_logprobs=[[-1000.0, 0.0]]))


def finite(made):
    return torch.isfinite(made).double()


CASES = [
    Case(
        source=SKYRL,
        name="test_compute_tis_ratio_token_level",
        what="weights, at most 2",
        theirs=[1.6487, 0.6065, 2.0],
        ours=lambda: weights(OLD, ENGINE, **TIS, **TOKEN, ratio_high=2.0),
    ),
    Case(
        source=SKYRL,
        name="test_compute_tis_ratio_sequence_level",
        what="weight, at most 5",
        theirs=[2.7183],
        ours=lambda: weights(OLD, ENGINE, **TIS, **SEQUENCE, ratio_high=5.0)[:1],
    ),
    Case(
        source=SKYRL,
        name="test_compute_tis_ratio_sequence_level_with_cap",
        what="weight, at most 5",
        theirs=[5.0],
        ours=lambda: weights(ONES, TWOS, **TIS, **SEQUENCE, ratio_high=5.0)[:1],
    ),
    Case(
        source=SKYRL,
        name="test_compute_tis_ratio_with_mask",
        what="weight, at most 10",
        theirs=[4.4817],
        ours=lambda: weights(OLD, ENGINE, [[1, 0, 1]], **TIS, **SEQUENCE, ratio_high=10.0)[:1],
    ),
    Case(
        source=SKYRL,
        name="test_compute_sequence_mask_geometric",
        what="mask in [0.9, 1.1]",
        theirs=[1.0],
        ours=lambda: weights(*NEAR, **GEOMETRIC)[:1],
    ),
    Case(
        source=SKYRL,
        name="test_compute_sequence_mask_geometric_rejects",
        what="mask in [0.9, 1.1]",
        theirs=[0.0],
        ours=lambda: weights(ONES, [[-1.5] * 3], **GEOMETRIC)[:1],
    ),
    Case(
        source=SKYRL,
        name="test_compute_sequence_mask_product",
        what="mask in [0.5, 2]",
        theirs=[1.0],
        ours=lambda: weights([[-1.0, -1.1, -1.2]], [[-1.2] * 3], **REJECT, **SEQUENCE)[:1],
    ),
    Case(
        source=SKYRL,
        name="test_compute_sequence_mask_product_rejects_by_seq_ratio",
        what="mask in [0.5, 2]",
        theirs=[0.0],
        ours=lambda: weights(ONES, TWOS, **REJECT, **SEQUENCE)[:1],
    ),
    Case(
        source=SKYRL,
        name="test_compute_token_mask_all_in_bounds",
        what="mask in [0.5, 2]",
        theirs=[1.0, 1.0, 1.0],
        ours=lambda: weights(*NEAR, **REJECT),
    ),
    Case(
        source=SKYRL,
        name="test_compute_token_mask_masks_high_ratio_tokens",
        what="mask in [0.5, 2]",
        theirs=[1.0, 1.0, 0.0],
        ours=lambda: weights(ONES, [[-1.0, -1.0, -3.0]], **REJECT),
    ),
    Case(
        source=SKYRL,
        name="test_compute_token_mask_masks_low_ratio_tokens",
        what="mask in [0.5, 2]",
        theirs=[1.0, 1.0, 0.0],
        ours=lambda: weights([[-1.0, -1.0, -3.0]], ONES, **REJECT),
    ),
    Case(
        source=SKYRL,
        name="test_compute_token_mask_multi_sequence_batch",
        what="mask in [0.5, 2]",
        theirs=[1.0, 0.0, 0.0, 1.0],
        ours=lambda: weights([[-1.0, -1.0], [-3.0, -1.0]], [[-1.0, -3.0], [-1.0, -1.0]], **REJECT),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_icepop_importance_sampling",
        what="mean loss, mask in [0.5, 5]",
        theirs=[(-0.6065 - 2 * 0.8187) / 3],
        ours=lambda: masked(0.5, 5.0, "token", [[-0.5, -3.5, -0.8]]),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_seq_mask_tis",
        what="mean loss, geometric mask in [0.999, 1.002]",
        theirs=[-2 * 1.0005 / 3],
        ours=lambda: masked(0.999, 1.002, "geometric", [[-1.0005] * 3]),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_seq_mask_tis",
        what="the loss is finite where the engine gave -inf",
        theirs=[1.0],
        ours=lambda: finite(masked(0.999, 1.002, "geometric", [[-1.0005, -math.inf, -1.0005]])),
    ),
    Case(
        source=VERL,
        name="test_exact_icepop_zeroes_weights_without_changing_mask",
        what="weights, mask in [0.5, 5]",
        theirs=[0.0, 0.8, 0.0],
        ours=lambda: weights(
            [[0.0] * 3],
            [[-math.log(w) for w in (0.4, 0.8, 6.0)]],
            correction="mask",
            ratio_low=0.5,
            ratio_high=5.0,
        ),
    ),
    Case(
        source=OPENRLHF,
        name="test_icepop_filters_overflowing_ratio_without_nan",
        what="mean loss, mask in [0.5, 5]",
        theirs=[-0.5],
        ours=overflowing,
    ),
    Case(
        source=OPENRLHF,
        name="test_seq_mask_gates_on_the_per_sequence_geometric_mean_ratio",
        what="mean loss, geometric mask in [0.5, 5]",
        theirs=[-(math.e + 1 / math.e) / 4],
        ours=sequence_masked,
    ),
    Case(
        source=TRL,
        name="test_get_off_policy_mask",
        what="rows kept, delta 1",
        theirs=[1.0, 1.0, 0.0],
        ours=lambda: kept(
            [[-2.0] * 4, [-0.5] * 4, [-2.0] * 4], [[0.0] * 4] * 3, [1, -1, -1], [[1] * 4] * 3, 1.0
        ),
    ),
    Case(
        source=TRL,
        name="test_get_off_policy_mask_padding",
        what="row kept, delta 1, far apart",
        theirs=[0.0],
        ours=lambda: kept([[-2.0, -2.0, -1e4, 1e4]], [[0.0] * 4], [-1], PADDED, 1.0),
    ),
    Case(
        source=TRL,
        name="test_get_off_policy_mask_padding",
        what="row kept, delta 1, near",
        theirs=[1.0],
        ours=lambda: kept([[-0.5, -0.5, -1e4, 1e4]], [[0.0] * 4], [-1], PADDED, 1.0),
    ),
]
