"""Gathers everything wrong with a file, so that its author sees it at once, and once.

What is wrong is left out and the rest is checked further. `under` lets a check that looks for
something missing stand back where the missing thing is there, but wrong.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tiers.core.printable import printable_text
from tiers.errors import Problem
from tiers.topology.settings import key_of, write
from tiers.topology.veil import Veil

M = TypeVar("M", bound=BaseModel)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_MAX = 400

# pydantic's error types in the words of a topology file; {} is filled from the error's context.
_WANTED = {
    "missing": "this key",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "a path",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "a text of the form {pattern}",
    "too_short": "at least {min_length}",
    "value_error": "{error}",
}
_LIMITS = {"gt", "ge", "lt", "le"}
_NUMBERS: Mapping[object, str] = {int: "a whole number", float: "a number"}


class Problems:
    """The problems of one file, in the order in which they were found."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.veil = Veil()
        self._hushed: list[str] = []

    def add(self, key: str, wanted: str, found: str, hint: str = "") -> None:
        """One more, unless its value could not be read to begin with."""
        if not any(_beneath(key, hushed) for hushed in self._hushed):
            texts = (self.veil.hide(text) for text in (wanted, found, hint))
            self.found.append(Problem(key, *map(_cut, texts)))

    def hush(self, key: str) -> None:
        """What else is wrong with `key` follows from what was said, and is not worth saying."""
        self._hushed.append(key)

    def under(self, *keys: str) -> bool:
        """Whether something is wrong with one of `keys`, or beneath it."""
        return any(_beneath(problem.key, key) for problem in self.found for key in keys)

    def suggests(self, name: str, key: str) -> bool:
        """Whether `name` was held to be what a wrong name at or beneath `key` meant."""
        meant = f"did you mean {name!r}?"
        return any(_beneath(problem.key, key) and problem.hint == meant for problem in self.found)

    def read(
        self, model: type[M], raw: object, key: str, instead: Mapping[str, object] | None = None
    ) -> M | None:
        """`raw` as a `model`, what is wrong with it left out and taken from `instead`; None
        where that is not enough to make one."""
        bad = self._misread(raw, model, key)
        wrong: list[ErrorDetails] = []
        try:
            good = model.model_validate(raw)
            if not bad:
                return good
        except ValidationError as error:
            wrong = error.errors(include_url=False)
        for each in wrong:
            if each["loc"][:1] not in {(name,) for name in bad}:
                self._translate(each, model, key)
        bad |= {each["loc"][0] for each in wrong if each["loc"]}
        rest = {k: v for k, v in raw.items() if k not in bad} if isinstance(raw, dict) else {}
        try:
            return model.model_validate({**(instead or {}), **rest})
        except ValidationError:
            return None

    def _misread(self, raw: object, model: type[BaseModel], key: str) -> set[str | int]:
        """Keys with `true` for a number, or a number for `true`, which pydantic takes for one
        another. (Texts are numbers too: variables hold nothing else.)"""
        bad: set[str | int] = set()
        if not isinstance(raw, dict):
            return bad
        for name, field in model.model_fields.items():
            kinds = set(get_args(field.annotation) or (field.annotation,))
            value = raw.get(known := key_of(name, field))
            is_bool = isinstance(value, bool)
            if bool in kinds and isinstance(value, int | float) and not is_bool:
                self.add(join(key, known), "true or false", show(value))
            elif is_bool and (number := kinds & _NUMBERS.keys()) and bool not in kinds:
                self.add(join(key, known), _NUMBERS[number.pop()], show(value))
            else:
                continue
            bad.add(known)
        return bad

    def _translate(self, error: ErrorDetails, model: type[BaseModel], key: str) -> None:
        place = join(key, *error["loc"])
        if error["type"] == "extra_forbidden":
            last = str(error["loc"][-1])
            known = keys_of(model) if len(error["loc"]) == 1 else []
            wanted = f"one of {', '.join(known)}" if known else "a key that exists"
            self.add(place, wanted, f"unknown key {last!r}", nearest(last, known, listed=False))
            return
        if error["type"] == "missing":
            self.add(place, _description(model, error["loc"]), "nothing")
            return
        text = _WANTED.get(error["type"])
        if text is None:
            wanted = error["msg"].removeprefix("Input should be ")
        else:
            wanted = text.format(**_in_units(error, model))
        self.add(place, wanted, show(error["input"]))


def _in_units(error: ErrorDetails, model: type[BaseModel]) -> dict[str, object]:
    """What an error of pydantic's tells besides, limits as one writes them for its key."""
    told: dict[str, object] = dict(error.get("ctx", {}))
    for name, field in model.model_fields.items():
        if error["loc"] == (key_of(name, field),):
            told |= {what: write(field, told[what]) for what in _LIMITS & told.keys()}
    return told


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that a table of this kind may have."""
    return [key_of(name, field) for name, field in model.model_fields.items()]


def join(key: str, *parts: str | int) -> str:
    """`join("tiers", "edge", "sources", 0)` -> `"tiers.edge.sources[0]"`."""
    for part in parts:
        if isinstance(part, int):
            key = f"{key}[{part}]"
        else:
            name = part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            key = f"{key}.{name}" if key else name
    return key


def show(value: object) -> str:
    """What was found."""
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, str | int | float) else str(value)


def _cut(text: str) -> str:
    """Short enough for a line; not before what is to be hidden is."""
    shown = printable_text(text)
    return shown if len(shown) <= _SHOWN_MAX else f"{shown[: _SHOWN_MAX - 3]}..."


def nearest(name: str, names: Iterable[str], *, listed: bool = True) -> str:
    """`did you mean 'next'?`; without a near one the list of all, where it was not given yet."""
    known: Sequence[str] = list(names)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(known)}" if listed and known else ""


def _beneath(key: str, above: str) -> bool:
    return key.startswith(above) and (
        not above or key[len(above) : len(above) + 1] in ("", ".", "[")
    )


def _description(model: type[BaseModel], place: tuple[Any, ...]) -> str:
    for name, field in model.model_fields.items():
        if place == (key_of(name, field),) and field.description:
            return f"this key ({field.description[0].lower()}{field.description[1:]})"
    return "this key"
