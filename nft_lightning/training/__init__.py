"""The LightningModule and the LightningDataModule: one epoch is one rollout and its optimizer steps.

Begin with ``module.PolicyModule.training_step`` and ``datamodule.RolloutDataModule.roll_out``.
"""
