"""Cases on losses: clipping, bounded weights, sequence ratios."""

from __future__ import annotations

import math

from nft_lightning.objectives import CISPO, DPPO, DRO, GRPO, GSPO, REINFORCE, SAPO
from tests.conformance.replay import Case, losses, mean, total

SKYRL = "SkyRL a956457, test_losses.py"
NEMO = "NeMo-RL 7ea279a, test_loss_functions.py"
VERL = "verl 1dda039, test_dynamic_policy_losses_on_cpu.py"
SLIME = "slime 624b824"
AREAL = "AReaL 4aef98d, test_functional.py"
OPENRLHF = "OpenRLHF 0.11.2, test_loss_aggregation.py"

# Ratios 0.5, 1 and 10; and 0.5, 1 and 1.5.
TEN = ([[-1.69315, -1.0, -0.69741]], [[-1.0, -1.0, -3.0]], [[1.0, -1.0, -4.0]])
HALF = ([[-1.69315, -1.0, -0.59453]], [[-1.0] * 3], [[1.0, -1.0, 2.0]])
ENGINE = [[-0.5, -1.5, -0.8]]
CLIP = {"clip_low": 0.2, "clip_high": 0.2}
TV = {"divergence": "tv", "limit_low": 0.2, "limit_high": 0.2}
LN3, LN2 = 1.0986123, 0.6931472
NEW = [-0.7, -1.2, -0.4, -2.1]


def cispo(ratios, low, high):
    old = [now - math.log(ratio) for now, ratio in zip(NEW, ratios, strict=True)]
    objective = CISPO(clip_low=low, clip_high=high)
    return losses(objective, [NEW], [old], [[1.0, -0.5, 2.0, -1.0]])


CASES = [
    Case(
        source=SKYRL,
        name="test_policy_loss_dual_clip",
        what="loss of each token, c = 3",
        theirs=[-0.5, 1.0, 12.0],
        ours=lambda: losses(GRPO(dual_clip=3.0), *TEN),
    ),
    Case(
        source=SKYRL,
        name="test_policy_loss_cispo",
        what="sum over tokens, R in [0.8, 1.2]",
        theirs=[-2.9930],
        ours=lambda: total(losses(CISPO(**CLIP), *TEN)),
    ),
    Case(
        source=SKYRL,
        name="test_sapo_policy_loss_basic",
        what="sum over tokens, tau 1 and 2",
        theirs=[-1.6115 + 1.2179 - 0.9525],
        ours=lambda: total(
            losses(
                SAPO(temperature_positive=1.0, temperature_negative=2.0),
                [[-1.5, -0.8, -1.1]],
                [[-1.0] * 3],
                [[1.0, -1.0, 0.5]],
            )
        ),
    ),
    Case(
        source=SKYRL,
        name="test_dppo_policy_loss[tv_pos_adv_masked]",
        what="loss of each token, delta 0.2",
        theirs=[0.0, 0.0, -1.1051709],
        ours=lambda: losses(DPPO(**TV), [[-0.3, -2.0, -0.9]], [[-1.0] * 3], [[1.0, -1.0, 1.0]]),
    ),
    Case(
        source=SKYRL,
        name="test_dppo_policy_loss[tv_wrong_direction_not_masked]",
        what="loss of each token, delta 0.2",
        theirs=[-0.3678794, 2.0137527],
        ours=lambda: losses(DPPO(**TV), [[-2.0, -0.3]], [[-1.0] * 2], [[1.0, -1.0]]),
    ),
    Case(
        source=SKYRL,
        name="test_dppo_policy_loss[kl_no_masking_within_delta]",
        what="loss of each token, delta 0.5",
        theirs=[-0.9900498, 1.0100502],
        ours=lambda: losses(
            DPPO(divergence="kl", limit_low=0.5, limit_high=0.5),
            [[-1.01, -0.99]],
            [[-1.0] * 2],
            [[1.0, -1.0]],
        ),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_ppo_clipping",
        what="mean over tokens",
        theirs=[-0.6333],
        ours=lambda: mean(losses(GRPO(), *HALF)),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_reinforce_mode",
        what="mean over tokens",
        theirs=[0.8333],
        ours=lambda: mean(
            losses(REINFORCE(importance_ratio=False), [[-0.5, -1.0, -1.5]], [[0.0] * 3], HALF[2])
        ),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_cispo",
        what="mean over tokens, R in [0.8, 1.2]",
        theirs=[(1.35452 - 1.0 + 1.426872) / 3],
        ours=lambda: mean(losses(CISPO(**CLIP), *HALF)),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_cispo_with_importance_sampling_correction",
        what="mean over tokens",
        theirs=[(0.6065 * 1.35452 - 1.6487 + 0.8187 * 1.426872) / 3],
        ours=lambda: mean(
            losses(CISPO(**CLIP, importance_correction="truncate"), *HALF, engine_logprobs=ENGINE)
        ),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_on_policy_kl_importance_sampling",
        what="mean over tokens",
        theirs=[-0.2065],
        ours=lambda: mean(losses(GRPO(importance_correction="truncate"), *HALF, engine_logprobs=ENGINE)),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_dual_clip",
        what="mean over tokens",
        theirs=[4.1667],
        ours=lambda: mean(losses(GRPO(dual_clip=3.0), *TEN)),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_gspo",
        what="mean over tokens, s = 0.9086",
        theirs=[-0.6057],
        ours=lambda: mean(losses(GSPO(**CLIP), *HALF)),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_gspo_batch_size_2",
        what="mean over tokens, s = 0.9086 and 2.4697",
        theirs=[-0.4912],
        ours=lambda: mean(
            losses(GSPO(**CLIP), HALF[0] * 2, [[-1.0] * 3, [-2.0] * 3], [[1.0, -1.0, 2.0]] * 2)
        ),
    ),
    Case(
        source=NEMO,
        name="test_clipped_pg_loss_kl_penalty",
        what="mean over tokens, 0.1 times k3",
        theirs=[0.0362],
        ours=lambda: mean(
            losses(
                GRPO(kl_coefficient=0.1),
                [[0.0, -1.0, -2.0]],
                [[0.0] * 3],
                [[0.0] * 3],
                reference_logprobs=[[-1.0] * 3],
            )
        ),
    ),
    Case(
        source=VERL,
        name="test_dro_matches_direct_formula_and_requires_positive_beta",
        what="mean over tokens, beta 0.05",
        theirs=[(1.601 - 1.349) / 2],
        ours=lambda: mean(
            losses(DRO(beta=0.05, ratio_level="token"), [[-0.8, -0.9]], [[-1.0, -0.7]], [[2.0, -1.5]])
        ),
    ),
    Case(
        source=OPENRLHF,
        name="test_binary_kl_trust_region_masks_tokens_and_sequences",
        what="mean over tokens, delta 0.05",
        theirs=[-0.5],
        ours=lambda: mean(
            losses(
                DPPO(divergence="kl", limit_low=0.05, limit_high=0.05),
                [[0.0, -LN2]],
                [[-LN3, -LN2]],
                [[1.0, 1.0]],
            )
        ),
    ),
    Case(
        source=OPENRLHF,
        name="test_tv_trust_region_masks_by_sampled_token_probability_gap",
        what="mean over tokens, delta 0.05",
        theirs=[-0.52],
        ours=lambda: mean(
            losses(
                DPPO(limit_low=0.05, limit_high=0.05),
                [[-0.5108256, -0.6539265]],
                [[-LN2] * 2],
                [[1.0, 1.0]],
            )
        ),
    ),
    Case(
        source=f"{SLIME}, test_policy_loss.py",
        name="test_compute_policy_loss_applies_dual_clip_to_negative_advantages",
        what="loss of each token, c = 1.5",
        theirs=[-2.4, 3.0, -1.0],
        ours=lambda: losses(GRPO(dual_clip=1.5), [[LN2, LN2, -LN2]], [[0.0] * 3], [[2.0, -2.0, 2.0]]),
    ),
    Case(
        source=f"{SLIME}, test_cispo_loss.py",
        name="test_compute_cispo_loss_matches_closed_form_surrogate[ppo_band]",
        what="loss of each token, R in [0.8, 1.28]",
        theirs=[0.7, -0.684, 1.024, -1.68],
        ours=lambda: cispo([1.0, 1.14, 1.56, 0.4], 0.2, 0.28),
    ),
    Case(
        source=f"{SLIME}, test_cispo_loss.py",
        name="test_compute_cispo_loss_matches_closed_form_surrogate[wide_minimax_band]",
        what="loss of each token, R in [0, 5]",
        theirs=[0.7, -1.8, 4.0, -0.84],
        ours=lambda: cispo([1.0, 3.0, 9.0, 0.4], 1.0, 4.0),
    ),
    Case(
        source=AREAL,
        name="test_known_value",
        what="SAPO's loss of each token on policy",
        theirs=[-2.0, -2.0],
        ours=lambda: losses(SAPO(temperature_negative=1.0), [[1.0] * 2], [[1.0] * 2], [[1.0] * 2]),
    ),
    Case(
        source=AREAL,
        name="test_sequence_level_geometric_mean_2d",
        what="ratios of two sequences",
        theirs=[1.6487, 2.7183],
        ours=lambda: (
            -losses(
                GSPO(clip_low=1.0, clip_high=9.0),
                [[1.0] * 4, [2.0] * 4],
                [[0.5] * 4, [1.0] * 4],
                [[1.0] * 4] * 2,
            )[:, 0]
        ),
    ),
]
