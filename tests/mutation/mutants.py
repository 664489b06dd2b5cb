"""All small bugs that can be planted into a source: each is one replacement in its text.

Left alone is what no test should see or what the type checker sees: annotations, imports,
docstrings, asserts, lines for the log, and the words of errors.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_COMPARED |= {"is": "is not", "is not": "is", "in": "not in", "not in": "in"}
_RECKONED = {"+": "-", "-": "+", "*": "//", "//": "*", "%": "*", "<<": ">>", ">>": "<<"}
_RECKONED |= {"|": "&", "&": "|", "/": "*"}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_OPERATOR = re.compile(
    r"\*\*|not\s+in|is\s+not|[<>=!]=|<<|>>|//|[-+*/%|&<>]|\bis\b|\bin\b|\band\b|\bor\b"
)
_LOGGERS = {"log", "_log", "logging"}


@dataclass(frozen=True, slots=True)
class Mutant:
    path: str
    begin: int  # in characters
    end: int
    text: str  # instead of what stands there
    line: int

    def plant(self, source: str) -> str:
        return source[: self.begin] + self.text + source[self.end :]


def mutants(path: str, source: str) -> list[Mutant]:
    """In the order in which they stand in the file."""
    found = set(_Finder(path, source).find(ast.parse(source)))
    return sorted(found, key=lambda one: (one.begin, one.end, one.text))


class _Finder:
    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        self._lines = source.splitlines(keepends=True)
        self._begins = [0]
        for line in self._lines:
            self._begins.append(self._begins[-1] + len(line))

    def find(self, node: ast.AST) -> Iterator[Mutant]:
        if _is_left_alone(node):
            return
        yield from self._here(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_comment", "bases"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.find(child)

    def _here(self, node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare():
                for left, right in pairwise([node.left, *node.comparators]):
                    yield from self._operator(left, right, _COMPARED)
            case ast.BinOp():
                yield from self._operator(node.left, node.right, _RECKONED)
            case ast.BoolOp():
                for left, right in pairwise(node.values):
                    yield from self._operator(left, right, {"and": "or", "or": "and"})
            case ast.AugAssign():
                between = {f"{old}=": f"{new}=" for old, new in _RECKONED.items()}
                yield from self._between(node.target, node.value, between)
                yield self._instead(node, "pass")
            case ast.UnaryOp(op=ast.Not()):
                yield self._instead(node, f"bool({self._text(node.operand)})")
            case ast.Constant(value=bool() as value):
                yield self._instead(node, str(not value))
            case ast.Constant(value=int() as value):
                yield self._instead(node, str(value + 1))
            case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
                yield self._instead(node.func, _CALLED[name])
            case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Constant):
                yield self._instead(node.test, f"(not ({self._text(node.test)}))")
            case ast.Break():
                yield self._instead(node, "continue")
            case ast.Continue():
                yield self._instead(node, "break")
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.Delete():
                yield self._instead(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._instead(node, "pass")

    def _operator(self, left: ast.expr, right: ast.expr, other: dict[str, str]) -> Iterator[Mutant]:
        begin, end = self._end(left), self._begin(right)
        found = _OPERATOR.search(self._source, begin, end)
        new = other.get(" ".join(found[0].split())) if found else None
        if found and new:
            yield Mutant(self._path, found.start(), found.end(), new, self._line(found.start()))

    def _between(self, left: ast.expr, right: ast.expr, other: dict[str, str]) -> Iterator[Mutant]:
        begin, end = self._end(left), self._begin(right)
        sign = self._source[begin:end].strip()
        if sign in other:
            at = self._source.index(sign, begin)
            yield Mutant(self._path, at, at + len(sign), other[sign], self._line(at))

    def _instead(self, node: ast.expr | ast.stmt, text: str) -> Mutant:
        return Mutant(self._path, self._begin(node), self._end(node), text, node.lineno)

    def _text(self, node: ast.expr) -> str:
        return self._source[self._begin(node) : self._end(node)]

    def _begin(self, node: ast.expr | ast.stmt) -> int:
        return self._place(node.lineno, node.col_offset)

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._place(node.end_lineno, node.end_col_offset)

    def _place(self, line: int, column: int) -> int:
        """`ast` counts columns in bytes of UTF-8."""
        text = self._lines[line - 1].encode()[:column].decode()
        return self._begins[line - 1] + len(text)

    def _line(self, at: int) -> int:
        return self._source.count("\n", 0, at) + 1


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Assert() | ast.Import() | ast.ImportFrom() | ast.Raise() | ast.JoinedStr():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return name in _LOGGERS
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in bases)
        case _:
            return False
