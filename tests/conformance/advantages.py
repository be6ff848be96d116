"""Cases on advantages and generalised advantages."""

from __future__ import annotations

import math

from nft_lightning.objectives import GRPO, RLOO, DrGRPO, MaxRL
from tests.conformance.replay import Case, advantages, gae, total

PRIME = "prime-rl 559b447, test_advantage.py"
SKYRL = "SkyRL a956457, test_ppo_utils.py"
NEMO = "NeMo-RL 7ea279a, test_grpo.py"
NEMO_BASE = "NeMo-RL 7ea279a, test_utils.py"
NEMO_PPO = "NeMo-RL 7ea279a, test_ppo.py"
VERL = "verl 1dda039, test_core_algos_on_cpu.py"

HALF = 1 / math.sqrt(2)
PAIRS, PAIRED = [6.0, 3.0, 9.0, 12.0], [0, 0, 1, 1]
SAMPLE = GRPO(std="sample")
GAP = [[0.1, 0.2, 999.0, 0.4, 0.5]]

CASES = [
    Case(
        source=PRIME,
        name="test_max_rl_mean_normalized",
        what="one right of four",
        theirs=[3.0, -1.0, -1.0, -1.0],
        ours=lambda: advantages(MaxRL(), [1.0, 0, 0, 0], [0] * 4),
    ),
    Case(
        source=PRIME,
        name="test_max_rl_mean_normalized",
        what="all wrong, then all right",
        theirs=[0.0, 0.0, 0.0, 0.0],
        ours=lambda: advantages(MaxRL(), [0.0, 0, 1, 1], PAIRED),
    ),
    Case(
        source=PRIME,
        name="test_grpo_plain_mean",
        what="sum of the advantages",
        theirs=[0.0],
        ours=lambda: total(advantages(DrGRPO(), [1.0, 0.5, 0.8], [0] * 3)),
    ),
    Case(
        source=PRIME,
        name="test_grpo_singleton_group_is_zero",
        what="one completion",
        theirs=[0.0],
        ours=lambda: advantages(DrGRPO(), [0.7], [0]),
    ),
    Case(
        source=SKYRL,
        name="test_compute_rloo_outcome_advantage_basic",
        what="groups of two, two and one",
        theirs=[3.0, -3.0, -3.0, 3.0, 0.0],
        ours=lambda: advantages(RLOO(), [*PAIRS, 1.0], [*PAIRED, 2]),
    ),
    Case(
        source=SKYRL,
        name="test_compute_grpo_outcome_advantage_norm_std_false",
        what="without the standard deviation",
        theirs=[1.5, -1.5, -1.5, 1.5],
        ours=lambda: advantages(DrGRPO(), PAIRS, PAIRED),
    ),
    Case(
        source=SKYRL,
        name="test_compute_maxrl_advantage",
        what="groups of two",
        theirs=[1.5 / 4.5, -1.5 / 4.5, -1.5 / 10.5, 1.5 / 10.5],
        ours=lambda: advantages(MaxRL(), PAIRS, PAIRED),
    ),
    Case(
        source=NEMO,
        name="test_grpo_advantage_estimator_zero_std",
        what="std=sample",
        theirs=[0.0, 0.0, -HALF, HALF],
        ours=lambda: advantages(SAMPLE, [2.0, 2.0, 1.0, 3.0], PAIRED),
    ),
    Case(
        source=NEMO,
        name="test_grpo_advantage_estimator_zero_std",
        what="the default, std=population",
        theirs=[0.0, 0.0, -HALF, HALF],
        ours=lambda: advantages(GRPO(), [2.0, 2.0, 1.0, 3.0], PAIRED),
        here=[0.0, 0.0, -1.0, 1.0],
        convention="the population's standard deviation, unless std=sample",
    ),
    Case(
        source=NEMO,
        name="test_grpo_advantage_estimator_small_nonzero_std",
        what="std=sample, rewards 1 and 1.01",
        theirs=[-HALF, HALF],
        ours=lambda: advantages(SAMPLE, [1.0, 1.01], [0, 0]),
    ),
    Case(
        source=NEMO,
        name="test_grpo_advantage_estimator_zero_std_and_zero_advantage",
        what="equal rewards",
        theirs=[0.0] * 4,
        ours=lambda: advantages(SAMPLE, [5.0] * 4, [0] * 4),
    ),
    Case(
        source=VERL,
        name="test_grpo_vectorized_matches_original_for_low_variance_rewards",
        what="rewards 1 and 1.00001, by their formula",
        theirs=[-0.6158, 0.6158],
        ours=lambda: advantages(SAMPLE, [1.0, 1.00001], [0, 0]),
        here=[0.0, 0.0],
        convention="rewards within 1e-5 are equal: nothing to learn from rounding",
    ),
    Case(
        source=NEMO_BASE,
        name="test_calculate_baseline_and_std_per_prompt_basic",
        what="reward less the leave-one-out baseline",
        theirs=[-1.5, 0.0, 1.5, -1.5, 0.0, 1.5],
        ours=lambda: advantages(RLOO(), [1.0, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1]),
    ),
    Case(
        source=NEMO_BASE,
        name="test_calculate_baseline_and_std_per_prompt_single_generation_per_prompt",
        what="reward less the baseline, groups of one",
        theirs=[0.0, 0.0],
        ours=lambda: advantages(RLOO(), [2.5, 4.0], [0, 1]),
    ),
    Case(
        source=NEMO_BASE,
        name="test_calculate_baseline_and_std_per_prompt_mixed_prompt_sizes",
        what="reward less the baseline, groups of two and three",
        theirs=[-1.0, 1.0, -1.5, 0.0, 1.5],
        ours=lambda: advantages(RLOO(), [1.0, 2, 4, 5, 6], [0, 0, 1, 1, 1]),
    ),
    Case(
        source=NEMO_PPO,
        name="test_gae_basic_computation",
        what="advantages, gamma = lambda = 1",
        theirs=[0.5] * 4,
        ours=lambda: gae([[0.5] * 4], 1.0, 1.0, 1.0),
    ),
    Case(
        source=NEMO_PPO,
        name="test_gae_gamma_lambda_zero",
        what="advantages, lambda = 0",
        theirs=[1.0, 1.0, 2.0],
        ours=lambda: gae([[1.0, 2.0, 3.0]], 5.0, 1.0, 0.0),
    ),
    Case(
        source=NEMO_PPO,
        name="test_gae_carry_forward_interior_gap",
        what="advantages with a gap less those without",
        theirs=[0.0] * 4,
        ours=lambda: (
            gae(GAP, 1.0, 0.99, 0.95, [1, 1, 0, 1, 1]) - gae([[0.1, 0.2, 0.4, 0.5]], 1.0, 0.99, 0.95)
        ),
    ),
]
