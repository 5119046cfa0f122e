"""`make measure`: the size and shape of the package, or of another folder of Python: `python -m tests.measure FOLDER`.

A function is measured from its `def` to its last line; a module's own imports are those of its own package.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, quantiles

# What the project holds itself to (CONTRIBUTING.md).
LIMITS = {
    "function median": 8.0,
    "function p90": 20.0,
    "function max": 60.0,
    "own imports mean": 4.0,
    "top level": 14.0,
}


@dataclass
class Figures:
    """Lines per module and function, arguments per function, imports per module."""

    modules: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    arguments: list[int] = field(default_factory=list)
    imports: list[int] = field(default_factory=list)
    annotated: int = 0
    documented: int = 0
    longest: tuple[int, str] = (0, "")


def measure(folder: Path) -> Figures:
    figures = Figures()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        figures.modules.append(text.count("\n"))
        figures.imports.append(len(_own_imports(tree, folder.name)))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                _add(figures, node, path)
    return figures


def _add(figures: Figures, node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> None:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    figures.functions.append(lines)
    figures.arguments.append(len(node.args.args) + len(node.args.kwonlyargs) + len(node.args.posonlyargs))
    figures.annotated += node.returns is not None
    figures.documented += ast.get_docstring(node) is not None
    figures.longest = max(figures.longest, (lines, f"{path}:{node.lineno} {node.name}"))


def _own_imports(tree: ast.Module, package: str) -> set[str]:
    own = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    return {name for name in own if name.partition(".")[0] == package}


def rows(folder: Path) -> list[tuple[str, float]]:
    found = measure(folder)
    names = {path.stem if path.suffix == ".py" else path.name for path in folder.iterdir() if path.name[0] not in "._"}
    shown = [
        *((f"module {name}", value) for name, value in _spread(found.modules)),
        *((f"function {name}", value) for name, value in _spread(found.functions)),
        ("own imports mean", round(mean(found.imports), 1)),
        ("own imports max", max(found.imports)),
        ("arguments p90", quantiles(found.arguments, n=10)[-1]),
        ("arguments max", max(found.arguments)),
        ("returns annotated, %", round(100 * found.annotated / len(found.functions))),
        ("functions documented, %", round(100 * found.documented / len(found.functions))),
    ]
    return [("modules", len(found.modules)), ("lines", sum(found.modules)), ("top level", len(names)), *shown]


def _spread(values: Sequence[int]) -> list[tuple[str, float]]:
    return [("median", median(values)), ("p90", round(quantiles(values, n=10)[-1])), ("max", max(values))]


def main(words: Sequence[str]) -> int:
    folder = Path(words[0]) if words else Path("xnat_ingest")
    print(f"| {folder} | | limit |\n|---|---|---|")
    over = []
    for name, value in rows(folder):
        limit = LIMITS.get(name) if not words else None
        if limit is not None and value > limit:
            over.append(name)
        print(f"| {name} | {value:g} | {'' if limit is None else f'{limit:g}'} |")
    print(f"\nlongest function: {measure(folder).longest[1]}")
    if over:
        print(f"above the limit: {', '.join(over)}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
