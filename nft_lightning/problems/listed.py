"""Problems from a finite list: JSON Lines files, hub data sets, reasoning-gym generators."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nft_lightning.common.libraries import check_library
from nft_lightning.errors import UserError, first_line
from nft_lightning.problems.base import check_ids, is_held_out, shuffled_index
from nft_lightning.problems.exclusion import selected
from nft_lightning.problems.hub_rows import problem_of_row
from nft_lightning.problems.jsonl import read_jsonl
from nft_lightning.problems.values import NotTextError, built_in, plain, text_of
from nft_lightning.types import Problem


class ListedProblems:
    """A finite list, reshuffled every pass; evaluation gets the held-out part.

    Subclasses give ``problems``, and ``evaluation`` where they have a set of their own for it.
    """

    held_out_fraction: float

    @cached_property
    def problems(self) -> list[Problem]:
        """Return every problem of the source, in its own order."""
        raise NotImplementedError

    @cached_property
    def evaluation(self) -> list[Problem] | None:
        """Return a separate evaluation set, or None to split it off ``problems``."""
        return None

    @cached_property
    def split(self) -> tuple[list[Problem], list[Problem]]:
        """Training and held-out problems; the split is decided by the text, never by the seed."""
        for listed in (self.problems, self.evaluation or ()):
            check_ids(listed)
        if self.evaluation is not None:
            return self.problems, self.evaluation
        held = [p for p in self.problems if is_held_out(p.text, self.held_out_fraction)]
        train = [p for p in self.problems if not is_held_out(p.text, self.held_out_fraction)]
        if not held or not train:
            raise UserError(
                "problems.source.held_out_fraction",
                self.held_out_fraction,
                f"leaves {len(train)} training and {len(held)} evaluation problems",
                "give more problems, another fraction, or a file of its own for evaluation",
            )
        return train, held

    @property
    def training(self) -> list[Problem]:
        """Return every training problem, so that all can be looked at before a run starts."""
        return self.split[0]

    def problem(self, index: int, seed: int) -> Problem:
        """Training problem number ``index``."""
        train = self.split[0]
        return train[shuffled_index(index, len(train), seed)]

    def held_out(self, count: int) -> list[Problem]:
        """Return the first ``count`` evaluation problems."""
        return self.split[1][:count]


@dataclass(frozen=True)
class JsonlProblems(ListedProblems):
    """JSON Lines with ``problem`` and ``answer`` on each line; ``id`` and ``solution`` are optional.

    Attributes:
        path: the training file.
        eval_path: a file for evaluation; without it a part of ``path`` is held out.
        held_out_fraction: that part, chosen by a hash of the problem's text.
        exclude, max_characters: what of ``path`` is left out, see
            :func:`nft_lightning.problems.exclusion.selected`.
    """

    path: str
    eval_path: str | None = None
    held_out_fraction: float = 0.1
    exclude: str | None = None
    max_characters: int | None = None

    def __post_init__(self) -> None:
        _ = self.split

    @cached_property
    def problems(self) -> list[Problem]:
        """Return the lines of ``path`` that are not left out."""
        return selected(read_jsonl(self.path, "problems.path"), self.exclude, self.max_characters)

    @cached_property
    def evaluation(self) -> list[Problem] | None:
        """Return the lines of ``eval_path``."""
        return read_jsonl(self.eval_path, "problems.eval_path") if self.eval_path else None


@dataclass(frozen=True)
class HubProblems(ListedProblems):
    """A data set of the Hugging Face hub, or a local folder that ``datasets`` can load.

    Its rows have no ids of their own: ``exclude`` knows them by text. See :class:`JsonlProblems`.

    Attributes:
        split_name, subset: as ``load_dataset`` takes them.
        problem_field, answer_field, solution_field: columns of text or numbers; a list of answers is
            joined by commas, and a row may lack a solution.
        answer_after: the answer is what follows the last such mark, as ``####`` in GSM8K.
    """

    path: str
    split_name: str = "train"
    subset: str | None = None
    problem_field: str = "problem"
    answer_field: str = "answer"
    solution_field: str | None = None
    answer_after: str | None = None
    held_out_fraction: float = 0.1
    exclude: str | None = None
    max_characters: int | None = None

    @cached_property
    def problems(self) -> list[Problem]:
        """Return the rows of the split that are not left out."""
        check_library("problems", "hf_dataset", "datasets", "hub")
        from datasets import load_dataset

        try:
            rows = load_dataset(self.path, self.subset, split=self.split_name)
        except (OSError, ValueError, RuntimeError) as error:
            reason = first_line(error)
            raise UserError(
                "problems.path",
                self.path,
                f"cannot be loaded ({reason})",
                "check the name, split_name and subset, or give a local folder",
            ) from error
        fields = (self.problem_field, self.answer_field, self.solution_field)
        missing = {f for f in fields if f is not None} - set(rows.column_names)
        if missing:
            raise UserError(
                ", ".join(f"problems.source.{kind}_field" for kind in ("problem", "answer", "solution")),
                sorted(missing),
                f"are not columns of {self.path}",
                f"use some of {', '.join(rows.column_names)}",
            )
        found = [problem_of_row(row, i, self) for i, row in enumerate(rows)]
        return selected(found, self.exclude, self.max_characters)


@dataclass(frozen=True)
class ReasoningGymProblems(ListedProblems):
    """One generator of reasoning-gym: ``pip install '.[reasoning-gym]'``.

    Some tasks have no answer of their own, only a scorer: then the answer is empty, and only
    ``verifier=reasoning_gym`` can score what is said to them.

    Attributes:
        task: a generator's name, such as ``chain_sum`` or ``gcd``.
        size: how many items to generate; equal questions count once.
        generator_seed: the generator's own seed, apart from the run's.
        options: the generator's parameters, such as ``{min_terms: 2, max_terms: 3}``.
    """

    task: str
    size: int = 2000
    generator_seed: int = 0
    options: dict[str, Any] | None = None
    held_out_fraction: float = 0.1

    @cached_property
    def problems(self) -> list[Problem]:
        """Distinct questions with their answers."""
        check_library("problems", "reasoning_gym", "reasoning_gym", "reasoning-gym")
        import reasoning_gym

        try:
            items = reasoning_gym.create_dataset(
                self.task, seed=self.generator_seed, size=self.size, **(self.options or {})
            )
        except (ValueError, TypeError, AssertionError) as error:
            remedy = "use a generator that exists, and options that it takes"
            raise UserError("problems.task", self.task, f"is refused ({error})", remedy) from error
        unique: dict[str, tuple[str, dict[str, Any]]] = {}
        for item in items:
            asked = {"task": self.task, "options": dict(self.options or {}), "entry": dict(item)}
            try:
                answer = "" if item["answer"] is None else text_of(item["answer"])
                unique[text_of(item["question"])] = answer, built_in(asked) if plain(asked) else {}
            except NotTextError as error:
                raise UserError(
                    "problems.task", self.task, f"has an answer that {error}", "use another generator"
                ) from error
        return [
            Problem(f"{self.task}:{i}", question, answer, extra=extra)
            for i, (question, (answer, extra)) in enumerate(unique.items())
        ]
