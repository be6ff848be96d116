"""What can be wrong with a prompt's config, found before a model's weights are loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nft_lightning.errors import UserError
from nft_lightning.problems.prompts import (
    AREA,
    CHAT,
    INSTRUCTION,
    JINJA,
    PROBE,
    RESERVED,
    TEMPLATES,
    PromptConfig,
    unencodable,
)


def check_prompt(prompt: PromptConfig, tokenizer: Any, area: str = AREA) -> None:
    """Raise UserError where no prompt can be made with this tokenizer.

    Args:
        prompt: the config.
        tokenizer: the model's.
        area: the config node that messages name.
    """
    check_template(prompt, area)
    check_texts(prompt, area)
    check_chat_kwargs(prompt, tokenizer, area)
    if not tokenizer.encode(PROBE, add_special_tokens=False):
        raise UserError(
            "model.path",
            str(tokenizer.name_or_path),
            "has no tokenizer: it encodes a text as no token",
            "save the tokenizer's files into that folder",
        )
    check_rendering(prompt, tokenizer, area)


def check_template(prompt: PromptConfig, area: str) -> None:
    """Raise UserError unless the template is a name, a text with ``{problem}`` or a file."""
    given = prompt.template
    if prompt.is_file:
        try:
            _ = prompt.jinja
        except UserError as error:
            raise UserError(f"{area}.template", *error.given[1:]) from error
    elif given != CHAT and given not in TEMPLATES and "{problem}" not in given:
        raise UserError(
            f"{area}.template",
            given,
            "is not a template",
            f"use one of {', '.join([CHAT, *TEMPLATES])}, a text that contains {{problem}}, or the "
            f"path of a Jinja file ({', '.join(JINJA)})",
        )
    text = TEMPLATES.get(given, given)
    if (
        not prompt.is_chat
        and "{instruction}" not in text
        and prompt.instruction
        not in (
            None,
            INSTRUCTION,
        )
    ):
        raise UserError(
            f"{area}.instruction",
            prompt.instruction,
            f"has no effect with template={given!r}",
            "write {instruction} into the template, or use one that has it, such as step_by_step",
        )


def check_texts(prompt: PromptConfig, area: str) -> None:
    """Raise UserError for examples of another form, and for text that UTF-8 cannot hold."""
    for number, example in enumerate(prompt.examples):
        if not isinstance(example, Mapping) or set(example) != {"problem", "answer"}:
            raise UserError(
                f"{area}.examples",
                example,
                f"is not a pair, at number {number + 1}",
                "give each as {problem: ..., answer: ...}",
            )
    texts = {"template": prompt.jinja or prompt.template, "system": prompt.system}
    texts["instruction"] = prompt.instruction
    for number, example in enumerate(prompt.examples):
        texts |= {f"examples.{number}.{name}": text for name, text in example.items()}
    for name, text in texts.items():
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise unencodable(f"{area}.{name}", text or "") from error


def check_chat_kwargs(prompt: PromptConfig, tokenizer: Any, area: str) -> None:
    """Raise UserError for a variable that no chat template reads."""
    if not prompt.chat_kwargs:
        return
    if not prompt.is_chat:
        raise UserError(
            f"{area}.chat_kwargs",
            dict(prompt.chat_kwargs),
            f"has no effect with template={prompt.template!r}",
            "use template=chat or a Jinja file",
        )
    source = prompt.jinja or str(tokenizer.chat_template or "")
    for name in prompt.chat_kwargs:
        if name in RESERVED:
            raise UserError(
                f"{area}.chat_kwargs.{name}", prompt.chat_kwargs[name], "is taken", "leave it out"
            )
        if source and not re.search(rf"\b{re.escape(name)}\b", source):
            raise UserError(
                f"{area}.chat_kwargs.{name}",
                prompt.chat_kwargs[name],
                "is not read by this chat template",
                "leave it out, or look for its name in the template",
            )


def check_rendering(prompt: PromptConfig, tokenizer: Any, area: str) -> None:
    """Raise UserError where the template fails, or leaves out the problem or the system message."""
    try:
        rendered = prompt.render(tokenizer, PROBE, area)
    except UserError as error:
        raise blamed(prompt, tokenizer, area, error) from error
    if PROBE not in rendered:
        raise UserError(
            f"{area}.template",
            prompt.template,
            "renders a prompt that does not hold the problem" if rendered.strip() else "renders nothing",
            "correct the template, or use another",
        )
    if prompt.system is not None and prompt.system.strip() not in rendered:
        raise no_system_role(prompt, area, "leaves it out")


def blamed(prompt: PromptConfig, tokenizer: Any, area: str, error: UserError) -> UserError:
    """Return the error of the system message where it renders without one, else ``error``."""
    if prompt.system is None:
        return error
    try:
        replace(prompt, system=None).render(tokenizer, PROBE, area)
    except UserError:
        return error
    return no_system_role(prompt, area, error.given[2])


def no_system_role(prompt: PromptConfig, area: str, what: str) -> UserError:
    """Return the error for a chat template without a system role."""
    return UserError(
        f"{area}.system",
        prompt.system,
        f"does not fit the chat template, which has no system role ({what})",
        "leave it out, or write it into instruction",
    )
