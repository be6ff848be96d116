"""Cases on how token losses become one number."""

from __future__ import annotations

from tests.conformance.replay import Case, reduced

SKYRL = "SkyRL a956457, test_ppo_utils.py"
VERL = "verl 1dda039, test_loss_aggregation_on_cpu.py"
OPENRLHF = "OpenRLHF 0.11.2, test_loss_aggregation.py"

LEGACY = [[2.0, 4.0], [6.0, 8.0], [10.0, 12.0], [14.0, 16.0]]
PROMPTS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
THREE = [[1, 1], [1, 0], [1, 1], [1, 1]]

CASES = [
    Case(
        source=SKYRL,
        name="test_token_mean",
        what="token_mean",
        theirs=[3.6],
        ours=lambda: reduced([[1.0, 2, 3], [4, 5, 6]], [[1, 1, 0], [1, 1, 1]], "token_mean"),
    ),
    Case(
        source=SKYRL,
        name="test_token_mean_all_masked",
        what="token_mean of nothing",
        theirs=[0.0],
        ours=lambda: reduced([[1.0, 2.0]], [[0, 0]], "token_mean"),
    ),
    Case(
        source=SKYRL,
        name="test_sequence_mean",
        what="sequence_mean",
        theirs=[2.25],
        ours=lambda: reduced([[1.0, 2.0], [3.0, 4.0]], [[1, 1], [1, 0]], "sequence_mean"),
    ),
    Case(
        source=SKYRL,
        name="test_seq_mean_token_sum_norm",
        what="constant, 10 tokens",
        theirs=[0.7],
        ours=lambda: reduced([[2.0, 3.0], [9.0, 12.0]], [[1, 1], [1, 0]], "constant", 10),
    ),
    Case(
        source=SKYRL,
        name="test_token_mean_legacy",
        what="token_mean in two micro-batches",
        theirs=[8.5],
        ours=lambda: reduced(LEGACY, THREE, "token_mean"),
        here=[64 / 7],
        convention="a mean over the update's tokens, however they are cut into micro-batches",
    ),
    Case(
        source=SKYRL,
        name="test_prompt_mean",
        what="mean over prompts of the means over their tokens",
        theirs=[4.25],
        ours=lambda: reduced(PROMPTS, THREE, "token_mean"),
        here=[32 / 7],
        convention="there is no reduction by prompt, so token_mean",
    ),
    Case(
        source=VERL,
        name="test_token_sum_masks_tokens_and_scales_for_dp",
        what="sum_per_1000 times 1000, 4 ranks",
        theirs=[52.0],
        ours=lambda: 1000 * reduced([[1.0, 2, 30], [4, 50, 6]], [[1, 1, 0], [1, 0, 1]], "sum_per_1000"),
        here=[13.0],
        convention="the number of ranks is no part of the weight; the training step undoes their mean",
    ),
    Case(
        source=OPENRLHF,
        name="test_token_mean_aggregation_matches_verl_dp_average",
        what="token_mean",
        theirs=[22 / 6],
        ours=lambda: reduced(
            [[1.0, 2, 0], [3, 4, 5], [7, 0, 0]], [[1, 1, 0], [1, 1, 1], [1, 0, 0]], "token_mean"
        ),
    ),
    Case(
        source=OPENRLHF,
        name="test_seq_mean_token_mean_aggregation_matches_verl_dp_average",
        what="sequence_mean",
        theirs=[13 / 3],
        ours=lambda: reduced(
            [[1.0, 3, 9], [2, 4, 0], [8, 0, 0]], [[1, 1, 0], [1, 1, 0], [1, 0, 0]], "sequence_mean"
        ),
    ),
    Case(
        source=OPENRLHF,
        name="test_loss_batch_info_excludes_fully_masked_sequences",
        what="sequence_mean with an empty row",
        theirs=[2.0],
        ours=lambda: reduced([[1.0, 3.0], [5.0, 7.0]], [[1, 1], [0, 0]], "sequence_mean"),
        here=[1.0],
        convention="an empty completion counts as a sequence",
    ),
    Case(
        source=OPENRLHF,
        name="test_grad_accum_global_norm_matches_global_token_mean_over_window",
        what="token_mean over micro-batches of 2 and 5 tokens",
        theirs=[4.0],
        ours=lambda: reduced(
            [[1.0, 2, 0], [3, 4, 5], [6, 7, 0]], [[1, 1, 0], [1, 1, 1], [1, 1, 0]], "token_mean"
        ),
    ),
    Case(
        source=OPENRLHF,
        name="test_seq_mean_token_mean_weighs_every_sequence_the_same",
        what="sequence_mean of -A",
        theirs=[-1.5],
        ours=lambda: reduced([[-2.0, -2.0], [-1.0, 0.0]], [[1, 1], [1, 0]], "sequence_mean"),
    ),
]
