"""Small changes to a program, one at a time, each of which its tests should see.

A place is a node of a file's syntax tree at which something can be changed; `places` finds them, and what each could be
changed to. Left out is what no test should look at: annotations, docstrings, messages of errors, logging, `__repr__`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from types import CodeType
from typing import Any

OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_PAIRS = (
    "sum mean, max min, amax amin, argmax argmin, maximum minimum, any all, zeros ones, new_zeros new_ones, "
    "zeros_like ones_like, sin cos, floor ceil, exp log, sigmoid tanh, left right, extend append"
)
NAMES = {a: b for pair in _PAIRS.split(", ") for a, b in (pair.split(), reversed(pair.split()))}
TENSORS_OWN = "detach float double clone abs sqrt square exp t".split()
TALK = {"logger", "logging", "warnings", "console"}
"""names whose calls only tell a person something"""
TYPES_ONLY = {"annotation", "returns", "decorator_list", "bases", "type_params"}
"""fields of nodes that hold types, or how a class is made"""


@dataclass(frozen=True)
class Change:
    """A change of a place: a kind in words, and the node that takes the place."""

    kind: str
    node: ast.AST


@dataclass(frozen=True)
class Place:
    """A node of a syntax tree, in a field of its parent, and what it can be changed to."""

    parent: ast.AST
    field: str
    index: int | None
    node: Any
    changes: tuple[Change, ...]

    def put(self, node: ast.AST) -> None:
        """Set a node at this place of the tree."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node

    def source(self, tree: ast.AST, change: Change) -> str:
        """The whole changed program; the tree stays as it is."""
        self.put(change.node)
        try:
            return ast.unparse(tree)
        finally:
            self.put(self.node)


def places(tree: ast.AST) -> Iterator[Place]:
    """All places of a program, in the order of the text."""
    for field, value in ast.iter_fields(tree):
        if field in TYPES_ONLY:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_left_out(child):
                continue
            if changes := tuple(_changes(child, tree)):
                yield Place(tree, field, index, child, changes)
            if not isinstance(child, ast.Raise):  # its text is a message
                yield from places(child)


def same_code(a: CodeType, b: CodeType) -> bool:
    """True if two compiled programs do the same, operation by operation, wherever their lines are."""
    if (a.co_code, a.co_names, a.co_varnames, len(a.co_consts)) != (
        b.co_code, b.co_names, b.co_varnames, len(b.co_consts)
    ):  # fmt: skip
        return False
    return all(
        same_code(x, y) if isinstance(x, CodeType) and isinstance(y, CodeType) else (type(x), x) == (type(y), y)
        for x, y in zip(a.co_consts, b.co_consts)
    )


def _is_left_out(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom() | ast.arguments(args=[], kwonlyargs=[]):
            return True
        case ast.FunctionDef(name="__repr__" | "__str__"):
            return True
        case ast.Expr(value=ast.Constant()) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call(func=func)):
            return _root(func) in TALK
        case ast.Raise(exc=ast.Name(id="NotImplementedError")):
            return True
        case ast.Raise(exc=ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.Assign(targets=[ast.Name(id="logger" | "__all__")]):
            return True
    return False


def _root(node: ast.AST) -> str:
    """The name at the beginning of a chain of attributes: "logger" of `logger.info`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _but(node: Any, **fields: Any) -> Any:
    """The same node with other fields; children are shared."""
    new = copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _without(items: list[Any], index: int) -> list[Any]:
    return items[:index] + items[index + 1 :]


def _changes(node: ast.AST, parent: ast.AST) -> Iterator[Change]:
    find = _FINDERS.get(type(node))
    if find is not None:
        yield from find(node, parent)
    if isinstance(node, (ast.Expr, ast.AugAssign, ast.Raise)) and not _is_yield(node):
        yield Change("statement dropped", ast.Pass())


def _is_yield(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, (ast.Yield, ast.YieldFrom, ast.Await))


def _compare(node: ast.Compare, parent: ast.AST) -> Iterator[Change]:
    first, *rest = node.ops
    yield Change("comparison inverted", _but(node, ops=[OPPOSITE[type(first)](), *rest]))
    if type(first) in BOUNDARY:
        yield Change("boundary moved", _but(node, ops=[BOUNDARY[type(first)](), *rest]))


def _constant(node: ast.Constant, parent: ast.AST) -> Iterator[Change]:
    match node.value:
        case bool():
            yield Change("constant changed", _but(node, value=not node.value))
        case int():
            yield Change("constant changed", _but(node, value=node.value + 1))
        case float():
            yield Change("constant changed", _but(node, value=node.value * 2 or 1.0))


def _binary(node: ast.BinOp, parent: ast.AST) -> Iterator[Change]:
    if any(isinstance(each, ast.JoinedStr) or _is_text(each) for each in (node.left, node.right)):
        return
    part = "term" if isinstance(node.op, (ast.Add, ast.Sub)) else "factor"
    yield Change(f"{part} dropped", node.left)
    yield Change(f"{part} dropped", node.right)
    if type(node.op) in ARITHMETIC:
        yield Change("operator swapped", _but(node, op=ARITHMETIC[type(node.op)]()))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))


def _unary(node: ast.UnaryOp, parent: ast.AST) -> Iterator[Change]:
    yield Change("unary operator dropped", node.operand)


def _logic(node: ast.BoolOp, parent: ast.AST) -> Iterator[Change]:
    yield Change("and/or swapped", _but(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))
    for index in range(len(node.values)):
        rest = _without(node.values, index)
        yield Change("condition dropped", rest[0] if len(rest) == 1 else _but(node, values=rest))


def _call(node: ast.Call, parent: ast.AST) -> Iterator[Change]:
    if _root(node.func) in TALK or (isinstance(node.func, ast.Name) and node.func.id.endswith("Error")):
        return
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield Change(f"argument {keyword.arg}= dropped", _but(node, keywords=_without(node.keywords, index)))
    if len(node.args) >= 2 and not any(isinstance(each, ast.Starred) for each in node.args[:2]):
        first, second, *rest = node.args
        if ast.dump(first) != ast.dump(second):
            yield Change("arguments swapped", _but(node, args=[second, first, *rest]))
    match node.func:
        case ast.Attribute(value=value, attr=name):
            if name in NAMES:
                yield Change("name swapped", _but(node, func=_but(node.func, attr=NAMES[name])))
            # Not of what may be a module or the object itself, but for tensors' own; a statement is dropped as a whole.
            is_chain = not isinstance(parent, ast.Expr) and not isinstance(value, ast.Name) and not _is_super(value)
            if is_chain or name in TENSORS_OWN:
                yield Change(f".{name}() dropped", value)
        case ast.Name(id=name) if name in NAMES:
            yield Change("name swapped", _but(node, func=_but(node.func, id=NAMES[name])))


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _either(node: ast.IfExp, parent: ast.AST) -> Iterator[Change]:
    yield Change("always the first", node.body)
    yield Change("always the second", node.orelse)


def _branch(node: ast.If, parent: ast.AST) -> Iterator[Change]:
    if not isinstance(node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):  # which have changes of their own
        yield Change("condition inverted", _but(node, test=ast.UnaryOp(ast.Not(), node.test)))
    if node.orelse and not isinstance(node.orelse[0], ast.If):
        yield Change("always the first branch", _but(node, test=ast.Constant(True)))
        yield Change("always the second branch", _but(node, test=ast.Constant(False)))


def _with(node: ast.With, parent: ast.AST) -> Iterator[Change]:
    """Without the block where no name is made by it, or names that it is given: `as (a, b)` of `f(a, b)`."""
    given = {each.id for item in node.items for each in ast.walk(item.context_expr) if isinstance(each, ast.Name)}
    made = {
        each.id
        for item in node.items
        for each in ast.walk(item.optional_vars or ast.Pass())
        if isinstance(each, ast.Name)
    }
    if made <= given:
        yield Change("with dropped", ast.If(ast.Constant(True), node.body, []))


def _assignment(node: ast.Assign, parent: ast.AST) -> Iterator[Change]:
    in_place = all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets)
    if in_place and not (isinstance(parent, ast.FunctionDef) and parent.name == "__init__"):
        yield Change("statement dropped", ast.Pass())


def _comprehension(node: ast.comprehension, parent: ast.AST) -> Iterator[Change]:
    if node.ifs:
        yield Change("filter dropped", _but(node, ifs=[]))


def _slice(node: ast.Slice, parent: ast.AST) -> Iterator[Change]:
    for bound in ("lower", "upper", "step"):
        if getattr(node, bound) is not None:
            yield Change(f"{bound} bound dropped", _but(node, **{bound: None}))


def _return(node: ast.Return, parent: ast.AST) -> Iterator[Change]:
    if isinstance(node.value, ast.Name) and isinstance(parent, ast.If):
        yield Change("early return dropped", ast.Pass())


_FINDERS: dict[type[ast.AST], Callable[[Any, ast.AST], Iterator[Change]]] = {
    ast.Compare: _compare, ast.Constant: _constant, ast.BinOp: _binary, ast.UnaryOp: _unary, ast.BoolOp: _logic,
    ast.Call: _call, ast.IfExp: _either, ast.If: _branch, ast.With: _with, ast.Assign: _assignment,
    ast.comprehension: _comprehension, ast.Slice: _slice, ast.Return: _return,
}  # fmt: skip
