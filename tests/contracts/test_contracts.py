"""One suite for every engine, one for every verifier, one for every objective."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nft_lightning.engines.base import SyncError
from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.objectives.base import Outcomes
from nft_lightning.objectives.diagnostics import summarise
from nft_lightning.policy.loading import TinyModel
from nft_lightning.problems.prompts import prompt_ids
from nft_lightning.types import OUTCOMES, Sampling, TokenLoss
from nft_lightning.verifiers.function import FunctionVerifier
from nft_lightning.verifiers.math.verifier import MathVerifier
from nft_lightning.verifiers.simple import ExactVerifier, NumericVerifier
from nft_lightning.verifiers.weighted import WeightedVerifier
from tests.engines.shared import served_engine, shared_vllm_engine
from tests.objectives.family import FAMILY, extras


def hf_engine():
    policy = TinyModel("tiny_unsure").load(1.0)
    engine = HFEngine(policy.model, policy.tokenizer, max_rows=16)
    return engine, policy


def vllm_engine():
    return shared_vllm_engine(), TinyModel("tiny_unsure").load(1.0)


def vllm_server_engine():
    policy = TinyModel("tiny_unsure").load(1.0)
    return served_engine(policy), policy


@pytest.fixture(
    params=[
        hf_engine,
        pytest.param(vllm_engine, marks=pytest.mark.vllm),
        pytest.param(vllm_server_engine, marks=pytest.mark.vllm),
    ]
)
def engine_and_policy(request):
    engine, policy = request.param()
    engine.load_weights(policy.model.named_parameters(), 7)
    return engine, policy


def same_box(completion: str, gold: str) -> bool:
    return f"\\boxed{{{gold}}}" in completion


VERIFIERS = {
    "math_verify": lambda: MathVerifier(timeout_seconds=20.0),
    "math_verify_search": lambda: MathVerifier(timeout_seconds=20.0, extract="any"),
    "exact": ExactVerifier,
    "numeric": NumericVerifier,
    "callable": lambda: FunctionVerifier(function=f"{__name__}.same_box"),
    "weighted": lambda: WeightedVerifier(
        parts={
            "answer": {"weight": 1.0, "verifier": NumericVerifier()},
            "math": {"weight": 0.5, "verifier": MathVerifier(timeout_seconds=20.0)},
        }
    ),
}


@pytest.fixture(params=VERIFIERS)
def verifier(request):
    made = VERIFIERS[request.param]()
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
                ids = torch.tensor([[*prompt, *c.token_ids]])
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
            assert group[0].token_ids.tolist() == expected.tolist()[: len(group[0].token_ids)]

    def test_a_greedy_group_is_copies_of_one(self, engine_and_policy):
        engine, policy = engine_and_policy
        groups = engine.generate(self.prompts(policy), Sampling(0.0, 24), [[1, 2, 3]] * 4)
        assert [len(set(group)) for group in groups] == [1] * 4
        assert [len(group) for group in groups] == [3] * 4

    def test_the_limit_truncates(self, engine_and_policy):
        engine, policy = engine_and_policy
        out = engine.generate(self.prompts(policy), Sampling(1.0, 1), [[1], [2], [3], [4]])
        assert all(len(c.token_ids) == 1 and c.truncated for g in out for c in g)

    def test_every_copy_of_the_weights_can_be_asked(self, engine_and_policy):
        engine, policy = engine_and_policy
        for one in engine.replicas():
            (group,) = one.generate(self.prompts(policy)[:1], Sampling(0.0, 4), [[0]])
            assert group[0].policy_version == 7

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
        assert [c.text for g in before for c in g] != [c.text for g in after for c in g]

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
    def test_counts_order_and_outcomes(self, verifier):
        texts = [r"\boxed{4}", "no box", r"\boxed{5}", r"\boxed{}", r"\boxed{4}"]
        verdicts = verifier.verify(texts, ["4"] * 5)
        assert [v.correct for v in verdicts] == [True, False, False, False, True]
        assert {v.outcome for v in verdicts} <= set(OUTCOMES)
        assert verdicts[0].seconds >= 0
        assert [v.outcome for v in verifier.verify(texts[::-1], ["4"] * 5)] == [
            v.outcome for v in verdicts[::-1]
        ]

    def test_truncated_flags_are_taken(self, verifier):
        verdicts = verifier.verify([r"\boxed{4}"] * 2, ["4"] * 2, [False, True])
        assert len(verdicts) == 2
        assert verdicts[0].correct

    def test_nothing_to_do(self, verifier):
        assert verifier.verify([], []) == []

    def test_lengths_that_differ_are_refused(self, verifier):
        with pytest.raises(ValueError, match="zip"):
            verifier.verify([r"\boxed{4}"], ["4", "5"])

    def test_every_verdict_has_a_worth(self, verifier):
        right, wrong = verifier.verify([r"\boxed{4}", r"\boxed{5}"], ["4", "4"])
        assert verifier.rewards.reward_for(right) > verifier.rewards.reward_for(wrong)

    def test_hostile_texts_are_judged_and_never_executed(self, verifier, tmp_path):
        canary = tmp_path / "canary"
        hostile = f"\\boxed{{__import__('pathlib').Path('{canary}').touch()}}"
        texts = [hostile, hostile, "\ud800\x00", "\\boxed{" * 1000, ""]
        assert not any(v.correct for v in verifier.verify(texts, ["x+1", "4", "4", "4", "4"]))
        assert not canary.exists()

    def test_closing_twice_and_going_on(self, verifier):
        verifier.verify([r"\boxed{4}"], ["4"])
        verifier.close()
        verifier.close()
        assert verifier.verify([r"\boxed{4}"], ["4"])[0].correct

    def test_from_another_thread(self, verifier):
        with ThreadPoolExecutor(1) as threads:
            verdicts = threads.submit(verifier.verify, [r"\boxed{4}"], ["4"]).result(60)
        assert verdicts[0].correct


@pytest.mark.parametrize("objective", FAMILY.values(), ids=list(FAMILY))
class TestObjective:
    def loss(self, objective, logprobs, old, mask, signal):
        return objective.loss(logprobs, old, mask, {**signal, **extras(objective, logprobs)})

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
            out = self.loss(objective, logprobs, old, mask, signal.values)
            assert isinstance(out, TokenLoss)
            assert out.loss.shape == (6, 4)
            assert torch.isfinite(out.loss).all()
            assert out.loss.requires_grad
            for total, count in out.metrics.values():
                assert total.dim() == count.dim() == 0
                assert not total.requires_grad
            for name, sums in out.sums.items():
                assert not sums.requires_grad
                assert summarise(name, sums)

    def test_missing_old_logprobs_mean_ratio_one(self, objective):
        signal = objective.prepare(self.outcomes())
        logprobs, mask = torch.randn(6, 4, requires_grad=True), torch.ones(6, 4).bool()
        explicit = self.loss(objective, logprobs, logprobs.detach(), mask, signal.values).loss
        implied = self.loss(objective, logprobs, None, mask, signal.values).loss
        assert torch.equal(explicit, implied)
