"""How a problem becomes a prompt."""

from __future__ import annotations

from typing import Any

from nft_lightning.errors import UserError

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."

TEMPLATES = {
    "plain": "{problem}",
    "equals": "{problem}=",
    "step_by_step": "{problem}\n" + INSTRUCTION + "\n",
    "question_answer": "Question: {problem}\n" + INSTRUCTION + "\nAnswer:",
}
CHAT = "chat"


def check_template(template: str, field: str = "problems.prompt_template") -> None:
    """Raise UserError unless ``template`` is ``chat`` or a name in :data:`TEMPLATES`."""
    if template != CHAT and template not in TEMPLATES:
        raise UserError(
            field,
            template,
            "is not a template",
            f"use one of {', '.join([CHAT, *TEMPLATES])}",
        )


def prompt_ids(
    tokenizer: Any, text: str, template: str, field: str = "problems.prompt_template"
) -> tuple[int, ...]:
    """Token ids of the prompt. ``chat`` is the tokenizer's own chat template."""
    if template != CHAT:
        # Problem text may hold braces, so it is never a format string itself.
        prompt = TEMPLATES[template].replace("{problem}", text)
        return tuple(tokenizer.encode(prompt, add_special_tokens=False))
    if not tokenizer.chat_template:
        raise UserError(
            field,
            CHAT,
            "needs a tokenizer with a chat template, which this model lacks",
            f"use one of {', '.join(TEMPLATES)}",
        )
    messages = [{"role": "user", "content": f"{text}\n{INSTRUCTION}"}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tuple(tokenizer.encode(rendered, add_special_tokens=False))
