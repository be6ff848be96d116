"""How a problem becomes a prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nft_lightning.errors import UserError, first_line

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
CHAT = "chat"
TEMPLATES = {
    "plain": "{problem}",
    "equals": "{problem}=",
    "step_by_step": "{problem}\n{instruction}\n",
    "question_answer": "Question: {problem}\n{instruction}\nAnswer:",
}
JINJA = (".j2", ".jinja")
# What apply_chat_template takes for itself; the rest of ``chat_kwargs`` goes to the template.
RESERVED = (
    "conversation",
    "messages",
    "problem",
    "instruction",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "chat_template",
    "return_dict",
    "return_tensors",
    "padding",
    "truncation",
    "max_length",
)
AREA = "problems.prompt"
PROBE = "7919 + 1"


@dataclass(frozen=True)
class PromptConfig:
    """What is around a problem; the same for training, held-out problems and ``nft-eval``.

    Attributes:
        template: ``chat`` (the tokenizer's own chat template), another name of :data:`TEMPLATES`, a
            text that contains ``{problem}`` (and ``{instruction}``), or the path of a Jinja file
            (.j2, .jinja), which is used as a chat template.
        system: the system message; in front of the text where there is no chat.
        examples: pairs ``{problem, answer}``: earlier turns of a chat, or text in front.
        chat_kwargs: variables of the chat template, such as ``enable_thinking``.
        instruction: asks for the form of the answer; None leaves it out. ``plain`` and ``equals``
            have no place for it.
    """

    template: str = CHAT
    system: str | None = None
    examples: list[Any] = field(default_factory=list)
    chat_kwargs: dict[str, Any] = field(default_factory=dict)
    instruction: str | None = INSTRUCTION

    def __post_init__(self) -> None:
        # YAML makes a number of an answer such as 7; what is no pair stays, to be named by the check.
        pairs = [
            {str(k): str(v) for k, v in pair.items()} if isinstance(pair, dict) else pair
            for pair in self.examples
        ]
        object.__setattr__(self, "examples", pairs)

    @property
    def is_file(self) -> bool:
        """Return whether the template is a Jinja file."""
        return self.template.endswith(JINJA) and "{problem}" not in self.template

    @property
    def is_chat(self) -> bool:
        """Return whether the prompt is a conversation: the tokenizer's chat template or a file's."""
        return self.template == CHAT or self.is_file

    @cached_property
    def jinja(self) -> str | None:
        """Return the Jinja file's text; None where the template is no file.

        Raises:
            UserError: it cannot be read.
        """
        if not self.is_file:
            return None
        try:
            return Path(self.template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{AREA}.template",
                self.template,
                f"cannot be read ({getattr(error, 'strerror', None) or error})",
                "give the path of a Jinja file in UTF-8",
            ) from error

    def turn(self, problem: str) -> str:
        """Return the problem in the text template, or as a user's message of a chat."""
        template = "{problem}\n{instruction}" if self.is_chat else self.template
        template = TEMPLATES.get(template, template)
        if self.instruction is None:
            template = template.replace("\n{instruction}", "").replace("{instruction}", "")
        values = {"problem": problem, "instruction": self.instruction or ""}
        # One pass: a problem may hold braces, so it is never a template itself.
        return re.sub(r"\{(problem|instruction)\}", lambda found: values[found[1]], template)

    def text(self, problem: str) -> str:
        """Return the prompt of a template that is no chat: system, examples, problem."""
        parts = [] if self.system is None else [f"{self.system}\n\n"]
        for example in self.examples:
            asked = self.turn(example["problem"])
            space = " " if asked.endswith(":") else ""
            parts.append(f"{asked}{space}{example['answer']}\n\n")
        return "".join([*parts, self.turn(problem)])

    def messages(self, problem: str) -> list[dict[str, str]]:
        """Return the conversation up to the problem."""
        found = [] if self.system is None else [{"role": "system", "content": self.system}]
        for example in self.examples:
            found.append({"role": "user", "content": self.turn(example["problem"])})
            found.append({"role": "assistant", "content": example["answer"]})
        return [*found, {"role": "user", "content": self.turn(problem)}]

    def render(self, tokenizer: Any, problem: str, area: str = AREA) -> str:
        """Return the whole prompt as text; a BOS token is in it only where a chat template writes one.

        Args:
            tokenizer: gives the chat template.
            problem: the problem's text.
            area: the config node that messages name.

        Raises:
            UserError: there is no chat template, or it fails.
        """
        if not self.is_chat:
            return self.text(problem)
        if self.jinja is None and not tokenizer.chat_template:
            raise UserError(
                f"{area}.template",
                self.template,
                "needs a tokenizer with a chat template, which this model lacks",
                f"use one of {', '.join(TEMPLATES)}, a text with {{problem}} or a Jinja file",
            )
        given = dict(self.chat_kwargs)
        if self.jinja is not None:
            given |= {"problem": problem, "instruction": self.instruction}
            given["chat_template"] = self.jinja
        try:
            rendered: str = tokenizer.apply_chat_template(
                self.messages(problem), tokenize=False, add_generation_prompt=True, **given
            )
        except Exception as error:  # templates raise whatever their authors like
            raise UserError(
                f"{area}.template",
                self.template,
                f"is a chat template that fails ({first_line(error)})",
                "correct it, give it what it asks for (system, chat_kwargs), or use another template",
            ) from error
        return rendered

    def encode(self, tokenizer: Any, problem: str, area: str = AREA) -> tuple[int, ...]:
        """Return the prompt's token ids, with what the tokenizer itself puts in front, once.

        Raises:
            UserError: as :meth:`render` does, or the text cannot be encoded, or is empty.
        """
        (ids,) = self.encode_all(tokenizer, [problem], area)
        if isinstance(ids, UserError):
            raise ids
        return ids

    def encode_answer(self, tokenizer: Any, answer: str, ends: Sequence[int]) -> tuple[int, ...]:
        """Return the ids of a written answer: nothing in front, and behind it the token that ends it.

        That is the one of ``ends`` with which a chat template closes an answer, else the
        tokenizer's end-of-sequence token.
        """
        ids = tokenizer.encode(answer, add_special_tokens=False)
        return (*ids, self.closing(tokenizer, ends))

    def closing(self, tokenizer: Any, ends: Sequence[int]) -> int:
        """Return the end id behind an answer."""
        own: int = tokenizer.eos_token_id
        if not self.is_chat:
            return own
        messages = [*self.messages(PROBE), {"role": "assistant", "content": PROBE}]
        given = {**self.chat_kwargs} if self.jinja is None else {"chat_template": self.jinja}
        try:
            whole = tokenizer.apply_chat_template(messages, tokenize=False, **given)
        except Exception:  # a template that takes no answer says nothing of its end
            return own
        behind = tokenizer.encode(whole.rpartition(PROBE)[2], add_special_tokens=False)
        return next((i for i in behind if i in ends), own)

    def encode_all(
        self, tokenizer: Any, problems: Sequence[str], area: str = AREA
    ) -> list[tuple[int, ...] | UserError]:
        """Return token ids of many prompts, encoded together; a UserError where one cannot be made."""
        rendered = [self.rendered(tokenizer, problem, area) for problem in problems]
        texts = [text for text in rendered if isinstance(text, str)]
        encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
        before = () if self.is_chat else opening(tokenizer)
        found: list[tuple[int, ...] | UserError] = []
        for problem, text in zip(problems, rendered, strict=True):
            if isinstance(text, UserError):
                found.append(text)
                continue
            ids = tuple(next(encoded))
            if not ids:
                found.append(UserError(area, problem[:60], "makes an empty prompt", "leave it out"))
            elif ids[: len(before)] == before:
                found.append(ids)
            else:
                found.append((*before, *ids))
        return found

    def rendered(self, tokenizer: Any, problem: str, area: str) -> str | UserError:
        """Return the prompt as text that UTF-8 can hold, or why there is none."""
        try:
            text = self.render(tokenizer, problem, area)
            text.encode()
        except UserError as error:
            return error
        except UnicodeEncodeError:
            return unencodable("problem", problem)
        return text


def prompt_ids(tokenizer: Any, problem: str, template: str) -> tuple[int, ...]:
    """Return token ids of a problem in a template, everything else as it is by default."""
    return PromptConfig(template).encode(tokenizer, problem)


def opening(tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that the tokenizer itself puts before a text: its BOS token, if any."""
    bare = tokenizer.encode("0", add_special_tokens=False)
    whole = tokenizer.encode("0")
    for i in range(len(whole) - len(bare) + 1):
        if bare and whole[i : i + len(bare)] == bare:
            return tuple(whole[:i])
    return ()


def unencodable(field: str, text: str) -> UserError:
    """Return the error for a text with half a character, as cut emoji in scraped data leave it."""
    shown = text.encode(errors="replace").decode()[:60]
    return UserError(
        field,
        shown,
        "holds half a surrogate pair, which UTF-8 cannot hold",
        "correct or remove the text",
    )
