"""Each model of the table once for the whole session, saved as its users have it."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from nft_lightning.policy.loading import HFModel
from tests.architectures.table import ARCHITECTURES, EOS, PAD, TEMPERATURE, WORDS, made


def words_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of one word a token: ``w7`` is number 7."""
    names = {f"w{i}": i for i in range(WORDS)}
    core = Tokenizer(models.WordLevel(names, unk_token=f"w{WORDS - 1}"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="w1", eos_token=f"w{EOS[0]}", pad_token=f"w{PAD}"
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Give the folder of a model by its name in the table."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            model = made(name)
            model.generation_config = GenerationConfig(eos_token_id=list(EOS), pad_token_id=PAD)
            model.save_pretrained(folders[name])
            words_tokenizer().save_pretrained(folders[name])
        return folders[name]

    return folder


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request):
    """A name of the table."""
    return request.param


@pytest.fixture
def policy(architecture, model_folder):
    """The model as a run loads it."""
    return HFModel(str(model_folder(architecture))).load(TEMPERATURE)
