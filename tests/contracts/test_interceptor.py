"""What every interceptor promises (tiers/contracts). A new interceptor adds a `Rig` here."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from tiers.contracts import Interceptor, InterceptorContext
from tiers.core.block import Block, HeaderCheck
from tiers.interceptors import BUILTIN, GROUP
from tiers.registry import load

CONTEXT = InterceptorContext("edge-1", "web-17")


@dataclass(frozen=True)
class Rig:
    """An interceptor under test: what becomes of these headers."""

    type: str
    options: dict[str, Any]
    before: dict[str, str]
    after: dict[str, str]

    def make(self) -> tuple[Any, Interceptor]:
        made = load(BUILTIN, GROUP, self.type)
        options = made.Options.model_validate({"type": self.type, "name": "one", **self.options})
        return options, made(options, CONTEXT)


RIGS = (
    Rig("static", {"headers": {"dc": "ams"}}, {"a": "b"}, {"a": "b", "dc": "ams"}),
    Rig("static", {"headers": {"dc": "ams"}}, {"dc": "fra"}, {"dc": "ams"}),
    Rig("static", {"headers": {"dc": "ams"}, "overwrite": False}, {"dc": "fra"}, {"dc": "fra"}),
    Rig("remove", {"headers": ["dc", "x"]}, {"a": "b", "dc": "fra"}, {"a": "b"}),
    Rig("remove", {"matching": "tmp_.*"}, {"tmp_a": "1", "a_tmp_": "2"}, {"a_tmp_": "2"}),
    Rig(
        "remove", {"headers": ["a"], "matching": "b"}, {"a": "1", "b": "2", "bb": "3"}, {"bb": "3"}
    ),
    Rig("host", {}, {"a": "b"}, {"a": "b", "host": "web-17"}),
    Rig("host", {"header": "machine"}, {"host": "x"}, {"host": "x", "machine": "web-17"}),
    Rig("host", {"overwrite": False}, {"host": "x"}, {"host": "x"}),
)


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("before", [None, {}, {"host": "h", "dc": "d", "a": "b"}])
def test_blocks_come_out_as_blocks(rig: Rig, before: dict[str, str] | None) -> None:
    options, interceptor = rig.make()
    headers = rig.before if before is None else before
    kept = copy.deepcopy(headers)
    block = Block(b"one\ntwo\n", 2, headers, 1000)
    found = interceptor.apply(block)
    assert headers == kept, "changed in place"
    for each in found:
        each.check()
        HeaderCheck().check(each.headers)
        assert each.headers.keys() <= options.header_names(frozenset(headers))
    if before is None:
        assert [each.headers for each in found] == [rig.after]
        assert b"".join(bytes(each.data) for each in found) == block.data


def test_each_of_ours_is_here() -> None:
    assert {rig.type for rig in RIGS} == set(BUILTIN)


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("static", {}, "headers"),
        ("static", {"headers": {}}, "headers"),
        ("remove", {}, "`headers`, `matching` or both"),
        ("remove", {"matching": "("}, "a regular expression"),
        ("remove", {"matching": "a" * 1001}, "matching"),
        ("host", {"header": ""}, "header"),
        ("host", {"on_error": "retry"}, "on_error"),
        ("host", {"no_such": 1}, "no_such"),
    ],
)
def test_bad_options_are_refused(kind: str, options: dict[str, Any], why: str) -> None:
    made = load(BUILTIN, GROUP, kind)
    with pytest.raises(ValidationError, match=why):
        made.Options.model_validate({"type": kind, **options})
