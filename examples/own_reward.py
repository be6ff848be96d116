"""A reward of one's own: right answers count fully, others by how close they are."""

import lightning as L

from nft_lightning import (
    GRPO,
    ArithmeticProblems,
    EvaluationConfig,
    FunctionVerifier,
    PolicyModule,
    RolloutDataModule,
    load_policy,
)
from nft_lightning.verifiers.extract import last_boxed


def closeness(completion: str, gold: str) -> float:
    """Return 1 for the right number in the last box, a smaller reward for others, 0 without a number."""
    answer = last_boxed(completion)
    try:
        distance = abs(int(answer or "") - int(gold))
    except ValueError:
        return 0.0
    return 1 / (1 + distance)


if __name__ == "__main__":
    policy = load_policy("tiny")
    verifier = FunctionVerifier(function=closeness, continuous=True)
    evaluation = EvaluationConfig(problems=20, completions_per_problem=4)
    data = RolloutDataModule(
        policy,
        ArithmeticProblems(),
        verifier,
        prompt_template="equals",
        evaluation=evaluation,
        problems_per_rollout=16,
    )
    module = PolicyModule(policy, GRPO(), learning_rate=2e-4)
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False)
    trainer.fit(module, data)
    print(f"avg@4 is {trainer.callback_metrics['eval/avg_at_4']:.2f}")
