"""Digest of a function's source, and of what it uses in its package.

Comments, layout and docstrings do not count: the digest is over the syntax tree. The definitions
are found by name in the sources, and so are those that they use, as far as they are in the
function's own top-level package. Of other libraries only the imported names count; their
versions are recorded elsewhere.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_PLAIN = (str, int, float, bool, bytes, tuple, type(None))


@cache
def source_digest(function: Callable[..., Any]) -> str | None:
    """SHA-256 over a function's definition and those that it uses.

    Parameters
    ----------
    function : callable
        A function, class, callable object or `functools.partial` of these.

    Returns
    -------
    str or None
        None where there is no source, as for a function that was typed into an interpreter.
    """
    fixed: list[str] = []
    while isinstance(function, partial):
        fixed.append(repr((function.args, sorted(function.keywords.items()))))
        function = function.func
    definition = inspect.unwrap(function)
    if not inspect.isroutine(definition) and not inspect.isclass(definition):
        definition = type(definition)
    try:
        texts = _Definitions(definition.__module__).collect(definition)
    except (OSError, TypeError, SyntaxError):
        return None
    content = sorted(texts) + fixed + _captured(definition)
    return hashlib.sha256("\0".join(content).encode()).hexdigest() if texts else None


def _captured(function: Any) -> list[str]:
    """The values of the variables that a nested function has from the one around it."""
    cells = getattr(function, "__closure__", None) or ()
    values = [cell.cell_contents for cell in cells]
    return [
        repr(value) if isinstance(value, _PLAIN) else source_digest(value) or type(value).__name__
        for value in values
        if isinstance(value, _PLAIN) or callable(value)
    ]


class _Definitions:
    """The texts of definitions, each once, and of those that they name."""

    def __init__(self, module: str) -> None:
        self._package = module.split(".")[0]
        self._seen: set[tuple[str, str]] = set()
        self._texts: set[str] = set()

    def collect(self, function: Any) -> set[str]:
        """The texts that a function consists of."""
        module, name = function.__module__, function.__qualname__.split(".")[0]
        if function.__name__ == "<lambda>":
            line = function.__code__.co_firstlineno
            for node in ast.walk(_tree(module)):
                if isinstance(node, ast.Lambda) and node.lineno == line:
                    self._add_node(module, node)
        else:
            self._add(module, name)
        return self._texts

    def _add(self, module: str, name: str) -> None:
        """Add what a name means in a module."""
        if (module, name) in self._seen:
            return
        self._seen.add((module, name))
        for node in _top_level(module).get(name, ()):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(module, node, name)
            else:
                self._add_node(module, node)

    def _add_node(self, module: str, node: ast.AST) -> None:
        node = _without_docstrings(node)
        self._texts.add(ast.unparse(node))
        imports = {
            alias.asname or alias.name.split(".")[0]: statement
            for statement in ast.walk(node)
            if isinstance(statement, ast.Import | ast.ImportFrom)
            for alias in statement.names
        }
        for path in _names(node):
            if path[0] in imports:
                self._add_import(module, imports[path[0]], *path)
            elif (target := _imported_module(module, path[0])) and len(path) > 1:
                self._add_from(target, path[1])
            else:
                self._add(module, path[0])

    def _add_import(
        self, module: str, node: ast.Import | ast.ImportFrom, name: str, *attributes: str
    ) -> None:
        """Add what an import statement binds to a name, if it is of the package."""
        for source, attribute in _imported(module, node, name):
            inner = f"{source}.{attribute}" if attribute else source
            if _is_module(inner, self._package):
                if attributes:
                    self._add(inner, attributes[0])
            elif attribute:
                self._add_from(source, attribute)

    def _add_from(self, source: str, name: str) -> None:
        if source.split(".")[0] == self._package:
            self._add(source, name)
        else:
            self._texts.add(f"{source}.{name}")


def _names(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every name that is read, with the attribute of it that is read, if any."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            yield part.value.id, part.attr
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            yield (part.id,)


def _imported(
    module: str, node: ast.Import | ast.ImportFrom, name: str
) -> Iterator[tuple[str, str | None]]:
    """Module and name in it that a statement binds to a name."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            if (alias.asname or alias.name) == name:
                yield _absolute(module, node), alias.name
        elif (alias.asname or alias.name.split(".")[0]) == name:
            yield alias.name if alias.asname else name, None


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    is_package = hasattr(sys.modules.get(module), "__path__")
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def _imported_module(module: str, name: str) -> str | None:
    """The module that a name at a module's top level stands for, if it stands for one."""
    package = module.split(".")[0]
    for node in _top_level(module).get(name, ()):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for source, attribute in _imported(module, node, name):
                inner = f"{source}.{attribute}" if attribute else source
                if inner.split(".")[0] != package or _is_module(inner, package):
                    return inner
    return None


def _is_module(name: str, package: str) -> bool:
    if name.split(".")[0] != package:
        return False
    try:
        return isinstance(import_module(name), ModuleType)
    except ImportError:
        return False


@cache
def _tree(module: str) -> ast.Module:
    """Syntax of a module.

    Raises
    ------
    OSError, TypeError
        Where it has no source.
    """
    return ast.parse(inspect.getsource(import_module(module)))


@cache
def _top_level(module: str) -> dict[str, list[ast.stmt]]:
    """The statements of a module that bind each of its names, those under `if` and `try` too."""
    bound: dict[str, list[ast.stmt]] = {}
    for node in _statements(_tree(module).body):
        for name in _bound(node):
            bound.setdefault(name, []).append(node)
    return bound


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if not isinstance(node, _DEFINITIONS):
            yield from _statements(
                [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt)]
            )


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, _DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0]
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id


def _without_docstrings(node: ast.AST) -> ast.AST:
    copy = ast.parse(ast.unparse(node))
    for part in ast.walk(copy):
        if isinstance(part, _DEFINITIONS) and ast.get_docstring(part, clean=False) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return copy
