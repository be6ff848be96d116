"""What stands in for vLLM's ``LLM`` where more ranks are wanted than a test machine can run vLLM in.

It takes the group that the ranks have joined, as vLLM's external launcher does, cuts its copies out of
it, and checks that the ranks of a copy ask the same. Weights and samples are real, by transformers.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM

from nft_lightning.engines.hf.engine import HFEngine
from nft_lightning.types import Sampling


class StandInLLM:
    """The part of vLLM's ``LLM`` that :class:`nft_lightning.engines.vllm.engine.VLLMEngine` uses."""

    world_size = 0  # how many ranks there must be

    def __init__(self, model, dtype, tensor_parallel_size, distributed_executor_backend, **options):
        assert dist.is_initialized(), "the engine was built before the ranks met"
        assert dist.get_world_size() == self.world_size
        assert distributed_executor_backend == "external_launcher"
        assert int(os.environ["RANK"]) == dist.get_rank()
        assert options["load_format"] == "dummy"
        # vLLM forms its copies so: ranks that follow one another hold one together.
        copies = torch.arange(self.world_size).view(-1, tensor_parallel_size).tolist()
        groups = [dist.new_group(ranks, backend="gloo") for ranks in copies]
        self.place = dist.get_rank() // tensor_parallel_size
        self.copy, self.ranks = groups[self.place], copies[self.place]
        config = AutoConfig.from_pretrained(model)
        self.model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
        self.llm_engine = SimpleNamespace(output_processor=SimpleNamespace(tokenizer=None))
        self.asked = []

    def apply_model(self, function):
        return [function(self.model)]

    def update_weights(self, request):
        own = dict(self.model.named_parameters())
        for name, tensor in request["update_info"]["weights"]:
            own[name].data.copy_(tensor)
            request["update_info"]["written"].add(name)

    def init_weight_transfer_engine(self, request):
        pass

    def start_weight_update(self):
        pass

    def finish_weight_update(self, version):
        pass

    def reset_prefix_cache(self):
        return True

    def generate(self, prompts, requests, use_tqdm):
        ids = [tuple(p["prompt_token_ids"]) for p in prompts]
        mine = [(prompt, request.seed) for prompt, request in zip(ids, requests, strict=True)]
        every = [None] * len(self.ranks)
        dist.all_gather_object(every, mine, group=self.copy)
        assert all(other == mine for other in every), "ranks of one copy asked for different things"
        self.asked.append(mine)
        tokenizer = self.llm_engine.output_processor.tokenizer
        given = requests[0]
        sampling = Sampling(given.temperature, given.max_tokens, given.top_p, max(0, given.top_k))
        engine = HFEngine(self.model, tokenizer)
        seeds = [[request.seed + i for i in range(request.n)] for request in requests]
        return [self.output(group) for group in engine.generate(ids, sampling, seeds)]

    def output(self, completions):
        rows = []
        for index, completion in enumerate(completions):
            ids = completion.token_ids.tolist()
            chosen = zip(ids, completion.logprobs.tolist(), strict=True)
            rows.append(
                SimpleNamespace(
                    index=index,
                    token_ids=ids,
                    logprobs=[{token: SimpleNamespace(logprob=value)} for token, value in chosen],
                    finish_reason="length" if completion.truncated else "stop",
                )
            )
        return SimpleNamespace(outputs=rows)
