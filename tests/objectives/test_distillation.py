"""On-policy distillation: its gradient is that of the KL to the teacher, and a run comes closer."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file, save_file

from nft_lightning import Distillation
from nft_lightning.app import run as running
from nft_lightning.app.parts import build_parts
from nft_lightning.app.preflight import check_machine
from nft_lightning.checkpoints.folder import read_checkpoint
from nft_lightning.errors import UserError

HERE = "Distillation"
VOCABULARY = 7


def test_on_policy_its_gradient_is_that_of_the_reverse_kl():
    """Every token of a small vocabulary once, each counted by its probability."""
    torch.manual_seed(0)
    logits = torch.randn(VOCABULARY, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(VOCABULARY, dtype=torch.float64).log_softmax(-1)
    logprobs = logits.log_softmax(-1)
    kl = (logprobs.exp() * (logprobs - teacher)).sum()
    (expected,) = torch.autograd.grad(kl, logits, retain_graph=True)
    signal = {"reference_logprobs": teacher[:, None]}
    mask = torch.ones(VOCABULARY, 1, dtype=torch.bool)
    loss = Distillation(advantage_clip=100.0).token_loss(logprobs[:, None], None, mask, signal).loss
    (found,) = torch.autograd.grad((logprobs.detach().exp() * loss[:, 0]).sum(), logits)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_off_policy_the_ratio_makes_up_for_the_writer():
    """Tokens counted by the writer's probability, advantages against the writer."""
    torch.manual_seed(1)
    logits = torch.randn(VOCABULARY, dtype=torch.float64, requires_grad=True)
    writer = torch.randn(VOCABULARY, dtype=torch.float64).log_softmax(-1)
    teacher = torch.randn(VOCABULARY, dtype=torch.float64).log_softmax(-1)
    logprobs = logits.log_softmax(-1)
    (expected,) = torch.autograd.grad(
        -(logprobs.exp() * (teacher - writer)).sum(), logits, retain_graph=True
    )
    signal = {"reference_logprobs": teacher[:, None]}
    mask = torch.ones(VOCABULARY, 1, dtype=torch.bool)
    out = Distillation().token_loss(logprobs[:, None], writer[:, None], mask, signal)
    (found,) = torch.autograd.grad((writer.exp() * out.loss[:, 0]).sum(), logits)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    total, count = out.metrics["teacher_gap"]
    assert float(total / count) == pytest.approx(float((writer - teacher).mean()))


def test_the_advantage_is_clipped():
    logprobs, mask = torch.zeros(1, 3, requires_grad=True), torch.ones(1, 3, dtype=torch.bool)
    signal = {"reference_logprobs": torch.tensor([[-30.0, 0.5, 30.0]])}
    loss = Distillation(advantage_clip=2.0).token_loss(logprobs, None, mask, signal).loss
    assert torch.autograd.grad(loss.sum(), logprobs)[0].tolist() == [[2.0, -0.5, -2.0]]


@pytest.fixture
def teacher(tmp_path, compose_config, quick):
    """The shipped policy after a little supervised fine-tuning on worked answers."""
    folder = tmp_path / "teacher"
    words = ["algorithm=sft", *quick, "rollout.problems_per_rollout=64", "trainer.max_epochs=3"]
    running.run(compose_config(*words, f"run_dir={folder}"))
    return folder / "export"


def gaps_of(folder):
    """Mean log(policy / teacher) of the completions' tokens, rollout by rollout."""
    with open(folder / "metrics.csv") as file:
        found = [row["objective/teacher_gap"] for row in csv.DictReader(file)]
    return [float(gap) for gap in found if gap]


@pytest.mark.slow
def test_a_run_comes_closer_to_its_teacher_and_resumes(tmp_path, compose_config, quick, teacher):
    given = ["algorithm=distillation", f"algorithm.teacher_path={teacher}", *quick]
    given += ["rollout.problems_per_rollout=16", "callbacks.checkpoint.every_epochs=1"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    running.run(compose_config(*given, f"run_dir={whole}", "trainer.max_epochs=3"))
    gaps = gaps_of(whole)
    assert gaps[-1] < 0.8 * gaps[0]
    running.run(compose_config(*given, f"run_dir={parted}", "trainer.max_epochs=1"))
    resumed = [f"run_dir={parted}", f"resume={parted}"]
    running.run(compose_config(*given, *resumed, "trainer.max_epochs=3"))
    one, other = (read_checkpoint(f / "checkpoints" / "last")["state_dict"] for f in (whole, parted))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert gaps_of(parted) == gaps
    for path, message in (
        ("tiny_unsure", "teacher_path"),
        (teacher, "are not those that the run began"),
    ):
        if path == teacher:
            change_a_weight(teacher)
        more = [f"algorithm.teacher_path={path}", "trainer.max_epochs=4"]
        with pytest.raises(UserError, match=message):
            running.run(compose_config(*given, *resumed, *more))


def change_a_weight(folder):
    """Let the model in a folder be another one."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, path, {"format": "pt"})


@pytest.mark.slow
def test_under_lora_the_teacher_is_another_model_too(tmp_path, compose_config, quick):
    given = ["algorithm=distillation", "algorithm.teacher_path=tiny", "model.name=tiny_unsure"]
    running.run(compose_config(*given, *quick, "policy.lora_rank=4", f"run_dir={tmp_path}"))
    assert gaps_of(tmp_path)[0] > 0.01


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"algorithm\.teacher_path=None is missing: give the folder or hub name"),
        (
            ["algorithm.teacher_path=./none"],
            r"algorithm\.teacher_path='./none' is not a model directory",
        ),
        (["algorithm.teacher_path=tiny", "algorithm.kl_coefficient=0.1"], "already minimises the KL"),
        (["algorithm.teacher_path=tiny", "algorithm.advantage_clip=0"], "advantage_clip"),
    ],
)
def test_what_cannot_work_is_one_sentence(compose_config, given, message):
    cfg = compose_config("algorithm=distillation", *given)
    with pytest.raises(UserError, match=message):
        check_machine(cfg, build_parts(cfg))
