"""Lightning strategies that divide the policy over the ranks (FSDP2 and DeepSpeed's ZeRO).

Their checkpoints hold whole tensors, so that a run can resume on another number of ranks.
"""
