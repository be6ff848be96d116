"""The pages: a list of groups, one group, one completion's whole text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from nft_lightning.browse.guard import Guard
from nft_lightning.browse.history import curve
from nft_lightning.browse.records import PARTS, Question, Records
from nft_lightning.browse.scores import MOST_TOKENS, STEPS, Scorer, implicit_level, level
from nft_lightning.browse.text import shortened, visible
from nft_lightning.errors import UserError
from nft_lightning.verdict import OUTCOMES

PER_PAGE = 50
COLUMNS_PER_PAGE = 16
FILTERS = ("part", "moment", "text", "verdict", "shortest", "longest")
COLOURS = {"": "none", "ratio": "log R", "negative": "implicit negative policy"}
FOLDER = Path(__file__).parent / "pages"
FILES = {"style.css": "text/css", "browse.js": "text/javascript"}


def number(given: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    """Return a whole number of the address; HTTPException 400 for anything else."""
    value = given.get(name, "").strip()
    if not value:
        return default
    if not re.fullmatch(r"[0-9]{1,12}", value):
        raise HTTPException(400, f"{name}={value[:40]!r} is not a whole number.")
    return int(value)


def choice(given: Mapping[str, str], name: str, allowed: Any, default: str) -> str:
    """Return one of ``allowed``; HTTPException 400 for anything else."""
    value = given.get(name, default)
    if value not in allowed:
        raise HTTPException(
            400, f"{name}={value[:40]!r} is none of {', '.join(a for a in allowed if a)}."
        )
    return value


class Pages:
    """The answers to requests, each made from the run's files as they are now."""

    def __init__(self, records: Records, scorer: Scorer) -> None:
        self.records, self.scorer = records, scorer
        self.environment = Environment(
            loader=PackageLoader("nft_lightning.browse", "pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters["visible"] = visible
        self.environment.globals.update(
            run=str(records.run), parts=PARTS, link=lambda path, /, **query: f"{path}?{urlencode(query)}"
        )

    def show(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a template as a page."""
        return HTMLResponse(self.environment.get_template(name).render(**values), status)

    def groups(self, request: Request) -> Response:
        """Return the list."""
        given = request.query_params
        has = [part for part in PARTS if self.records.files(part)]
        part = choice(given, "part", PARTS, has[0] if has else "rollouts")
        asked = Question(
            part,
            number(given, "moment"),
            given.get("text", ""),
            choice(given, "verdict", ("", *OUTCOMES), ""),
            number(given, "shortest"),
            number(given, "longest"),
        )
        page = max(number(given, "page", 1) or 1, 1)
        total, found = self.records.search(asked, (page - 1) * PER_PAGE, PER_PAGE)
        kept = {k: given[k] for k in FILTERS if given.get(k)}
        return self.show(
            "list.html.j2",
            asked=asked,
            total=total,
            found=found,
            page=page,
            pages=max(-(-total // PER_PAGE), 1),
            per_page=PER_PAGE,
            kept=kept,
            moments=self.records.moments(part),
            outcomes=OUTCOMES,
            unreadable=dict(self.records.unreadable),
        )

    def located(self, request: Request) -> tuple[Any, int, list[dict[str, Any]]]:
        """Return the group that an address names; HTTPException 404 where there is none."""
        given = request.query_params
        part, name, row = given.get("part", ""), given.get("file", ""), number(given, "row", 0)
        try:
            index, group = self.records.locate(part, name, row or 0)
            return index, group, self.records.completions(index, group)
        except (KeyError, OSError) as error:
            raise HTTPException(404, "There is no such group in this run.") from error

    def group(self, request: Request) -> Response:
        """Return one problem's completions."""
        given = request.query_params
        index, group, rows = self.located(request)
        colour = choice(given, "colour", COLOURS, "")
        choices = self.scorer.choices() if "token_ids" in rows[0] else []
        weights = given.get("weights") or (choices[0].name if choices else "")
        first = (max(number(given, "page", 1) or 1, 1) - 1) * COLUMNS_PER_PAGE
        chosen = rows[first : first + COLUMNS_PER_PAGE]
        accuracy = float(index.accuracies[group])
        tokens, problem = [], ""
        if colour and chosen:
            try:
                key = (index.part, index.name, int(index.starts[group]), first)
                tokens = self.coloured(colour, accuracy, key, weights, chosen)
            except UserError as error:
                problem = str(error)
        texts = [shortened(row["completion"] or "") for row in chosen]
        history = list(self.records.history(rows[0]["problem_id"]))
        return self.show(
            "group.html.j2",
            index=index,
            start=int(index.starts[group]),
            rows=chosen,
            first=first,
            total=len(rows),
            per_page=COLUMNS_PER_PAGE,
            texts=texts,
            tokens=tokens,
            accuracy=accuracy,
            colour=colour,
            colours=COLOURS,
            weights=weights,
            choices=choices,
            problem=problem,
            steps=STEPS,
            most_tokens=MOST_TOKENS,
            history=history,
            curve=curve(history),
        )

    def coloured(
        self, colour: str, accuracy: float, key: Any, weights: str, rows: list[dict[str, Any]]
    ) -> list[list[tuple[str, str, str]]]:
        """Text, class and note of each token of each row."""
        found = []
        for scored in self.scorer.tokens(key, weights, rows):
            line = []
            for token in scored:
                negative = token.implicit_ratio(accuracy)
                kind = level(token.log_ratio) if colour == "ratio" else implicit_level(negative)
                told = "none, r_q is 1" if negative is None else f"{negative:.3g}"
                old_new = f"log p {token.old:.3f} -> {token.new:.3f}"
                note = f"log R {token.log_ratio:+.3f}, {old_new}, negative {told}"
                line.append((token.text, kind, note))
            found.append(line)
        return found

    def text(self, request: Request) -> Response:
        """Return a completion in full, as plain text."""
        _, _, rows = self.located(request)
        sample = number(request.query_params, "sample", 0) or 0
        if sample >= len(rows):
            raise HTTPException(404, "This group has no such completion.")
        return PlainTextResponse(visible(rows[sample]["completion"] or ""))

    def file(self, request: Request) -> Response:
        """Style and script."""
        name = request.path_params["name"]
        if name not in FILES:
            raise HTTPException(404, "There is no such file.")
        return Response((FOLDER / name).read_bytes(), media_type=FILES[name])

    def failed(self, request: Request, error: Exception) -> Response:
        """Return a sentence in place of a page."""
        assert isinstance(error, HTTPException)
        return self.show("error.html.j2", error.status_code, sentence=error.detail)


def make_app(run: Path, device: str = "cpu") -> Starlette:
    """Return the application over a run folder. Raises UserError: it holds nothing to look at."""
    pages = Pages(Records(run), Scorer(run, device))
    return Starlette(
        routes=[
            Route("/", pages.groups),
            Route("/group", pages.group),
            Route("/text", pages.text),
            Route("/{name}", pages.file),
        ],
        middleware=[Middleware(Guard)],
        exception_handlers={HTTPException: pages.failed},
    )
