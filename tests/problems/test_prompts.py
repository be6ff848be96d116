"""Prompts of one's own: templates, system, examples, variables, instruction, BOS."""

from __future__ import annotations

import json

import pytest

from benchmarks.build_tiny import build_tokenizer
from nft_lightning.app.build import build
from nft_lightning.app.parts import build_parts
from nft_lightning.errors import UserError
from nft_lightning.problems.prompt_checks import check_prompt
from nft_lightning.problems.prompts import INSTRUCTION, TEMPLATES, PromptConfig, opening, prompt_ids
from tests.problems.made_tokenizer import CHAT, made_tokenizer

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
NO_SYSTEM += "{% endif %}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
DROPS_SYSTEM = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"


def read(prompt, problem="3+4", tokenizer=None):
    tokenizer = tokenizer or made_tokenizer()
    check_prompt(prompt, tokenizer)
    return tokenizer.decode(list(prompt.encode(tokenizer, problem)))


def test_the_templates_by_name():
    assert read(PromptConfig("plain")) == "3+4"
    assert read(PromptConfig("equals")) == "3+4="
    assert read(PromptConfig("step_by_step")) == f"3+4\n{INSTRUCTION}\n"
    assert read(PromptConfig("question_answer")) == f"Question: 3+4\n{INSTRUCTION}\nAnswer:"
    user = f"<|im_start|>user\n3+4\n{INSTRUCTION}<|im_end|>\n"
    assert read(PromptConfig()) == user + "<|im_start|>assistant\n"


def test_the_instruction_can_be_another_or_go():
    assert read(PromptConfig("step_by_step", instruction=None)) == "3+4\n"
    assert read(PromptConfig("question_answer", instruction=None)) == "Question: 3+4\nAnswer:"
    assert read(PromptConfig(instruction="Only a number.")).startswith(
        "<|im_start|>user\n3+4\nOnly a number.<|im_end|>"
    )
    assert "3+4<|im_end|>" in read(PromptConfig(instruction=None))
    assert read(PromptConfig("{instruction} {problem}", instruction="Add:")) == "Add: 3+4"


def test_a_text_with_system_and_examples():
    examples = [{"problem": "1+1", "answer": "2"}, {"problem": "2+2", "answer": "4"}]
    prompt = PromptConfig("Q: {problem}\nA:", system="Sums.", examples=examples)
    assert read(prompt) == "Sums.\n\nQ: 1+1\nA: 2\n\nQ: 2+2\nA: 4\n\nQ: 3+4\nA:"
    assert read(PromptConfig("equals", examples=examples[:1])) == "1+1=2\n\n3+4="


def test_a_chat_with_system_and_examples():
    examples = [{"problem": "1+1", "answer": "2"}]
    prompt = PromptConfig(system="Sums.", examples=examples, instruction=None)
    assert read(prompt) == (
        "<|im_start|>system\nSums.<|im_end|>\n<|im_start|>user\n1+1<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\n3+4<|im_end|>\n<|im_start|>assistant\n"
    )


def test_variables_of_the_chat_template():
    assert read(PromptConfig(chat_kwargs={"thinking": False})).endswith("<think></think>")
    assert not read(PromptConfig(chat_kwargs={"thinking": True})).endswith("<think></think>")


def test_a_jinja_file_is_a_chat_template(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{{ bos_token }}{{ problem }} ({{ messages|length }}, {{ instruction }})")
    prompt = PromptConfig(str(path), system="S", instruction="go")
    tokenizer = made_tokenizer(bos=True, chat=None)
    with pytest.raises(UserError, match="system"):
        check_prompt(prompt, tokenizer)
    assert read(PromptConfig(str(path), instruction="go"), tokenizer=tokenizer) == "<s>3+4 (1, go)"


def test_a_problem_is_never_a_template():
    for template in ("equals", "question_answer", "chat", "{instruction}{problem}"):
        assert "{problem}{instruction}{0}{{x}}" in read(
            PromptConfig(template), "{problem}{instruction}{0}{{x}}"
        )


@pytest.mark.parametrize("template", [*TEMPLATES, "My own: {problem}"])
def test_what_the_tokenizer_puts_in_front_stands_there_once(template):
    tokenizer = made_tokenizer(bos=True)
    bos = tokenizer.bos_token_id
    ids = PromptConfig(template).encode(tokenizer, "3+4")
    assert ids.index(bos) == 0
    assert ids.count(bos) == 1
    assert list(ids) == tokenizer.encode(PromptConfig(template).render(tokenizer, "3+4"))
    # A text that writes it itself gets no second one.
    written = PromptConfig("<s>{problem}").encode(tokenizer, "3+4")
    assert written.count(bos) == 1


def test_a_chat_template_decides_on_bos_itself():
    tokenizer = made_tokenizer(bos=True)
    assert PromptConfig().encode(tokenizer, "3").count(tokenizer.bos_token_id) == 0
    tokenizer.chat_template = "{{ bos_token }}" + CHAT
    assert PromptConfig().encode(tokenizer, "3").count(tokenizer.bos_token_id) == 1


def test_no_end_is_put_behind():
    from tokenizers import processors

    tokenizer = made_tokenizer(bos=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <|endoftext|>", special_tokens=[("<s>", 3), ("<|endoftext|>", 0)]
    )
    assert tokenizer.encode("3")[-1] == 0
    assert opening(tokenizer) == (3,)
    assert PromptConfig("plain").encode(tokenizer, "3") == (3, *tokenizer.encode("3")[1:-1])


def test_the_embedded_tokenizer_has_no_bos():
    tokenizer = build_tokenizer()
    assert opening(tokenizer) == ()
    assert list(prompt_ids(tokenizer, "7+12", "equals")) == tokenizer.encode(
        "7+12=", add_special_tokens=False
    )


def test_a_solution_ends_as_the_chat_template_ends_an_answer():
    tokenizer = made_tokenizer(bos=True, eos="<|endoftext|>")
    end_of_text, end_of_turn = 0, 2
    body = tuple(tokenizer.encode("7", add_special_tokens=False))
    answered = PromptConfig().encode_answer(tokenizer, "7", (end_of_text, end_of_turn))
    assert answered == (*body, end_of_turn)
    assert PromptConfig().encode_answer(tokenizer, "7", (end_of_text,)) == (*body, end_of_text)
    assert PromptConfig("plain").encode_answer(tokenizer, "7", (0, 2)) == (*body, end_of_text)


BAD = [
    (PromptConfig("odd"), {}, r"template='odd' is not a template: use one of chat, plain"),
    (PromptConfig("Question: {q}"), {}, r"is not a template"),
    (PromptConfig("missing.jinja"), {}, r"template='missing.jinja' cannot be read"),
    (PromptConfig(), {"chat": None}, r"template='chat' needs a tokenizer with a chat template"),
    (PromptConfig(), {"chat": "{% for m in messages %}"}, r"chat template that fails \(Unexpected end"),
    (PromptConfig(), {"chat": "{{ raise_exception('no') }}"}, r"chat template that fails \(no\)"),
    (PromptConfig(), {"chat": "{{ messages[0]['content'][0]['text'] }}"}, r"renders nothing"),
    (PromptConfig(), {"chat": "hello"}, r"does not hold the problem"),
    (PromptConfig(system="S"), {"chat": NO_SYSTEM}, r"system='S' .* has no system role \(is a chat"),
    (PromptConfig(system="Sums"), {"chat": DROPS_SYSTEM}, r"system='Sums' .* \(leaves it out\)"),
    (PromptConfig(chat_kwargs={"enable_thinking": False}), {}, r"enable_thinking=False is not read by"),
    (PromptConfig(chat_kwargs={"tokenize": True}), {}, r"chat_kwargs.tokenize=True is taken"),
    (PromptConfig("plain", chat_kwargs={"a": 1}), {}, r"chat_kwargs={'a': 1} has no effect"),
    (PromptConfig("plain", instruction="Box it."), {}, r"instruction='Box it.' has no effect"),
    (PromptConfig(examples=[{"problem": "1"}]), {}, r"examples={'problem': '1'} is not a pair"),
    (PromptConfig(system="\ud83d"), {}, r"prompt.system='\?' holds half a surrogate pair"),
    (PromptConfig("{problem}\ud83d"), {}, r"prompt.template=.* holds half a surrogate pair"),
]


@pytest.mark.parametrize(("prompt", "tokenizer", "message"), BAD)
def test_what_cannot_work_is_one_sentence(prompt, tokenizer, message):
    with pytest.raises(UserError, match=message) as caught:
        check_prompt(prompt, made_tokenizer(**tokenizer))
    assert str(caught.value).startswith("problems.prompt")
    with pytest.raises(UserError) as caught:
        check_prompt(prompt, made_tokenizer(**tokenizer), "eval.prompt")
    assert str(caught.value).startswith("eval.prompt")


def test_a_tokenizer_that_was_not_there(monkeypatch):
    tokenizer = made_tokenizer()
    monkeypatch.setattr(type(tokenizer), "encode", lambda *_, **__: [])
    with pytest.raises(UserError, match=r"model\.path=.* has no tokenizer"):
        check_prompt(PromptConfig("plain"), tokenizer)


def test_many_are_encoded_as_one_is():
    tokenizer = made_tokenizer(bos=True)
    texts = ["3+4", "half \ud83d", "", "What is 3?" * 20]
    for prompt in (PromptConfig("plain"), PromptConfig()):
        found = prompt.encode_all(tokenizer, texts)
        assert found[0] == prompt.encode(tokenizer, texts[0])
        assert found[3] == prompt.encode(tokenizer, texts[3])
        assert "half a surrogate pair" in str(found[1])
        with pytest.raises(UserError, match="half a surrogate pair"):
            prompt.encode(tokenizer, texts[1])
    assert isinstance(PromptConfig("plain").encode_all(tokenizer, [""])[0], UserError)


def test_the_node_is_built_from_the_command_line(compose_config):
    cfg = compose_config(
        'problems.prompt.template="Q: {problem} A:"',
        "problems.prompt.system=Sums",
        "problems.prompt.examples=[{problem: 1+1, answer: 2}]",
        "problems.prompt.instruction=null",
    )
    made = build(cfg.problems.prompt, "problems.prompt")
    assert made == PromptConfig("Q: {problem} A:", "Sums", [{"problem": "1+1", "answer": "2"}], {}, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("problems.prompt.examples=[3]", "problems.prompt.examples"),
        ("problems.prompt.examples=[{problem: 1}]", "is not a pair"),
        ("+problems.prompt.templat=chat", "did you mean problems.prompt.template"),
        ("+problems.prompt_template=chat", "has another name now: use problems.prompt.template"),
        ("problems.prompt.template=chat", "needs a tokenizer with a chat template"),
        (
            "rollout.stop=['<eos>']",
            r"holds the special token <eos>.* use rollout.stop_token_ids=\[2\]",
        ),
        ("rollout.stop=['']", "is empty"),
        ("rollout.stop_token_ids=[99999]", "is not a token of this model"),
    ],
)
def test_a_bad_node_is_refused_before_a_model_is_loaded(compose_config, override, message):
    with pytest.raises(UserError, match=message):
        build_parts(compose_config(override, "run_dir=x"))


@pytest.mark.parametrize("key", ["problem", "answer", "id", "solution"])
def test_half_a_surrogate_pair_is_named_with_its_line(compose_config, tmp_path, key):
    rows = [{"problem": "1+1", "answer": "2", "id": "a", "solution": "2"} for _ in range(3)]
    rows[1][key] += "\ud83d"
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"holds half a surrogate pair.* at line 2: correct"):
        build_parts(compose_config("problems=jsonl", f"problems.path={path}", "run_dir=x"))
