"""Train a model of your own on problems of your own, and write it where transformers loads it."""

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from nft_lightning import (
    NFT,
    EvaluationConfig,
    JsonlProblems,
    MathVerifier,
    PolicyModule,
    RolloutDataModule,
    load_policy,
)

L.seed_everything(0)
policy = load_policy("tiny")  # or a folder, or a name on the hub
problems = JsonlProblems("train.jsonl", eval_path="test.jsonl")
data = RolloutDataModule(
    policy,
    problems,
    MathVerifier(),
    prompt_template="equals",  # "chat" for a chat model
    problems_per_rollout=32,
    completions_per_problem=8,
    max_new_tokens=64,
    updates_per_rollout=4,
    evaluation=EvaluationConfig(problems=60, completions_per_problem=4),
)
module = PolicyModule(policy, NFT(), learning_rate=2e-4)  # 1e-5 for a model of 135 M parameters
best = ModelCheckpoint(monitor="eval/avg_at_4", mode="max")
logger = CSVLogger("runs", name="own_model", version="")
flags = {"num_sanity_val_steps": 0, "log_every_n_steps": 1}
trainer = L.Trainer(max_epochs=8, logger=logger, callbacks=[best], **flags)
trainer.validate(module, data)  # the first point of the learning curve
trainer.fit(module, data)
trainer.validate(module, data, ckpt_path="best")
module.save_pretrained("runs/own_model/export")
