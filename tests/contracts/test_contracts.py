"""One suite for every engine, one for every verifier, one for every objective."""

from __future__ import annotations

import os
import time

import pytest
import torch

from nft_lightning.engines.base import SyncError
from nft_lightning.engines.hf import HFEngine
from nft_lightning.objectives import DAPO, GRPO, NFT, RFT, DrGRPO
from nft_lightning.objectives.base import Outcomes
from nft_lightning.policy.loading import TinyModel
from nft_lightning.problems.prompts import prompt_ids
from nft_lightning.types import OUTCOMES, Sampling, TokenLoss
from nft_lightning.verifiers.math import MathVerifier
from tests.engines.shared import shared_vllm_engine


def hf_engine():
    policy = TinyModel("tiny_unsure").load(1.0)
    engine = HFEngine(policy.model, policy.tokenizer, max_rows=16)
    return engine, policy


def vllm_engine():
    return shared_vllm_engine(), TinyModel("tiny_unsure").load(1.0)


@pytest.fixture(params=[hf_engine, pytest.param(vllm_engine, marks=pytest.mark.vllm)])
def engine_and_policy(request):
    engine, policy = request.param()
    engine.load_weights(policy.model.named_parameters(), 7)
    return engine, policy


@pytest.fixture(params=[MathVerifier], ids=["math_verify"])
def verifier(request):
    made = request.param(timeout_seconds=3.0)
    yield made
    made.close()


PROBLEMS = ["7+12-5", "3+4", "20-19+18-17+16", "1+1+1"]


class TestEngine:
    def prompts(self, policy):
        return [prompt_ids(policy.tokenizer, p, "equals") for p in PROBLEMS]

    def test_counts_order_and_version(self, engine_and_policy):
        engine, policy = engine_and_policy
        seeds = [[1, 2, 3], [4], [5, 6], [7, 8, 9]]
        out = engine.generate(self.prompts(policy), Sampling(1.0, 40), seeds)
        assert [len(g) for g in out] == [3, 1, 2, 3]
        for completion in (c for g in out for c in g):
            assert completion.policy_version == 7
            assert len(completion.logprobs) == len(completion.token_ids)
            ended = completion.token_ids[-1] == policy.tokenizer.eos_token_id
            assert ended != completion.truncated

    def test_logprobs_are_the_models(self, engine_and_policy):
        engine, policy = engine_and_policy
        prompts = self.prompts(policy)
        out = engine.generate(prompts, Sampling(0.7, 24), [[i, i + 50] for i in range(4)])
        for prompt, group in zip(prompts, out, strict=True):
            for c in group:
                ids = torch.tensor([prompt + c.token_ids])
                with torch.no_grad():
                    logprobs = (policy.model(ids).logits[0].float() / 0.7).log_softmax(-1)
                own = logprobs[len(prompt) - 1 : -1].gather(-1, ids[0, len(prompt) :, None])[:, 0]
                assert torch.allclose(own, torch.tensor(c.logprobs), atol=1e-4)

    def test_samples_depend_on_the_seed_alone(self, engine_and_policy):
        engine, policy = engine_and_policy
        prompts, seeds = self.prompts(policy), [[1, 2], [3, 4], [5, 6], [7, 8]]
        together = engine.generate(prompts, Sampling(1.0, 40), seeds)
        alone = [
            engine.generate([p], Sampling(1.0, 40), [s])[0] for p, s in zip(prompts, seeds, strict=True)
        ]
        backwards = engine.generate(prompts[::-1], Sampling(1.0, 40), seeds[::-1])[::-1]
        texts = [[c.text for c in g] for g in together]
        assert texts == [[c.text for c in g] for g in alone] == [[c.text for c in g] for g in backwards]

    def test_greedy_is_generate(self, engine_and_policy):
        engine, policy = engine_and_policy
        prompts = self.prompts(policy)
        out = engine.generate(prompts, Sampling(0.0, 24), [[0]] * 4)
        for prompt, group in zip(prompts, out, strict=True):
            ids = torch.tensor([prompt])
            expected = policy.model.generate(ids, do_sample=False, max_new_tokens=24)[0, len(prompt) :]
            assert list(group[0].token_ids) == expected.tolist()[: len(group[0].token_ids)]

    def test_the_limit_truncates(self, engine_and_policy):
        engine, policy = engine_and_policy
        out = engine.generate(self.prompts(policy), Sampling(1.0, 1), [[1], [2], [3], [4]])
        assert all(len(c.token_ids) == 1 and c.truncated for g in out for c in g)

    def test_no_prompts(self, engine_and_policy):
        assert engine_and_policy[0].generate([], Sampling(1.0, 4), []) == []

    def test_new_weights_change_what_is_written(self, engine_and_policy):
        engine, policy = engine_and_policy
        before = engine.generate(self.prompts(policy), Sampling(0.0, 16), [[0]] * 4)
        noisy = [(n, p.detach() + 0.3 * torch.randn_like(p)) for n, p in policy.model.named_parameters()]
        report = engine.load_weights(noisy, 8)
        after = engine.generate(self.prompts(policy), Sampling(0.0, 16), [[0]] * 4)
        assert report.version == engine.policy_version == 8
        assert report.bytes > 0
        assert [c.token_ids for g in before for c in g] != [c.token_ids for g in after for c in g]

    @pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
    def test_an_incomplete_sync_is_refused(self, engine_and_policy, fault):
        engine, policy = engine_and_policy
        named = [(n, p.detach()) for n, p in policy.model.named_parameters()]
        name, tensor = named.pop()
        faulty = {"missing": [], "unknown": [("nobody", tensor)], "shape": [(name, tensor[:-1])]}[fault]
        with pytest.raises(SyncError, match=name if fault != "unknown" else "nobody"):
            engine.load_weights(named + faulty, 9)
        assert engine.policy_version != 9


class TestVerifier:
    def test_order_and_outcomes(self, verifier):
        texts = [r"\boxed{4}", "no box", r"\boxed{\frac{1}{2}}", r"\boxed{5}", r"\boxed{}"]
        golds = ["4", "4", "0.5", "4", "4"]
        outcomes = [v.outcome for v in verifier.verify(texts, golds)]
        assert outcomes == ["correct", "unparsable", "correct", "wrong", "unparsable"]
        assert set(outcomes) <= set(OUTCOMES)

    def test_nothing_to_do(self, verifier):
        assert verifier.verify([], []) == []

    def test_a_hung_job_is_killed_and_the_others_go_on(self, verifier):
        started = time.perf_counter()
        texts = [r"\boxed{9^{9^{9^9}}}", r"\boxed{\frac{2}{4}}", r"\boxed{7}"]
        outcomes = [v.outcome for v in verifier.verify(texts, ["1.5", r"\frac{1}{2}", "7"])]
        assert outcomes[1:] == ["correct", "correct"]
        assert outcomes[0] in {"timeout", "wrong", "error", "unparsable"}
        assert time.perf_counter() - started < 15
        again = verifier.verify([r"\boxed{0.5}"], [r"\frac{1}{2}"])
        assert again[0].outcome == "correct"

    def test_answers_are_never_executed(self, verifier, tmp_path):
        canary = tmp_path / "canary"
        hostile = f"\\boxed{{__import__('pathlib').Path('{canary}').touch()}}"
        verifier.verify([hostile, hostile], ["x+1", "4"])
        assert not canary.exists()

    def test_closing_ends_the_workers(self, verifier):
        verifier.verify([r"\boxed{\frac{1}{2}}"], ["0.5"])
        pids = [w.pid for w in verifier.pool.idle]
        verifier.close()
        assert pids
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


OBJECTIVES = [NFT(), RFT(), GRPO(), DrGRPO(), DAPO()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
class TestObjective:
    def outcomes(self):
        return Outcomes(
            torch.tensor([1.0, 0, 0, 1, 1, 1]),
            torch.tensor([0, 0, 1, 1, 2, 2]),
            torch.tensor([3, 1, 2, 0, 1, 1]),
            10,
        )

    def test_prepare_covers_every_completion(self, objective):
        signal = objective.prepare(self.outcomes())
        assert signal.keep.shape == (6,)
        assert "reward" in signal.values
        for value in signal.values.values():
            assert value.shape == (6,)
            assert torch.isfinite(value).all()

    def test_token_loss_shapes_and_pairs(self, objective):
        signal = objective.prepare(self.outcomes())
        logprobs = torch.randn(6, 4, requires_grad=True)
        mask = torch.arange(4)[None] < self.outcomes().lengths[:, None]
        for old in (None, torch.randn(6, 4)):
            out = objective.token_loss(logprobs, old, mask, signal.values)
            assert isinstance(out, TokenLoss)
            assert out.loss.shape == (6, 4)
            assert torch.isfinite(out.loss).all()
            assert out.loss.requires_grad
            for total, count in out.metrics.values():
                assert total.dim() == count.dim() == 0
                assert not total.requires_grad

    def test_missing_old_logprobs_mean_ratio_one(self, objective):
        signal = objective.prepare(self.outcomes())
        logprobs, mask = torch.randn(6, 4, requires_grad=True), torch.ones(6, 4).bool()
        explicit = objective.token_loss(logprobs, logprobs.detach(), mask, signal.values).loss
        implied = objective.token_loss(logprobs, None, mask, signal.values).loss
        assert torch.equal(explicit, implied)
