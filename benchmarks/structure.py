"""The shape of the source tree in numbers, before and after a change of its structure.

python benchmarks/structure.py        # of this checkout
python benchmarks/structure.py run    # saved, beside those before the tree was put in order

Imports count wherever they stand: in functions, and for type hints alone. Those across folders of
the package, from its files at the root too, are private if the module or the name begins with
``_``, and of the interface if the ``__init__`` of the other folder offers the name; what it offers
beside its ``__all__``, to the package alone, is counted apart. A private member of a model is used
in ``anything._name``, or the text ``"_name"`` for ``getattr``, in a folder above ``model``, where
a class in ``model`` defines ``_name``; ``self`` and ``cls`` do not count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "scmedal_tools"
BEFORE = "b26cfe0"  # the commit before the command, the benchmarks and the rest got their folders
ABOVE_MODEL = ("tl", "ext", "bm", "pl", "_cli")


def modules(root: Path = ROOT) -> dict[str, ast.Module]:
    """Syntax tree of every module of the package, by its full name."""
    source = root / "src"
    trees = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(), str(path))
    return trees


def imports(root: Path = ROOT) -> list[tuple[str, str, str]]:
    """Every name imported from the package: importing module, imported one, name."""
    trees = modules(root)
    packages = {name.rpartition(".")[0] for name in trees} | {PACKAGE}
    found = []
    for module, tree in trees.items():
        package = module if module in packages else module.rpartition(".")[0]
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            if origin.split(".")[0] != PACKAGE:
                continue
            for alias in node.names:
                submodule = f"{origin}.{alias.name}"
                found.append((module, submodule if submodule in trees else origin, alias.name))
    return found


def circles(root: Path = ROOT) -> list[list[str]]:
    """Groups of modules that import each other.

    A package's own ``__init__``, which gathers the names of its modules, is left out.
    """
    graph = nx.DiGraph()
    for module, origin, _ in imports(root):
        if not module.startswith(f"{origin}."):
            graph.add_edge(module, origin)
    return sorted(
        sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1
    )


def package_of(module: str) -> str:
    """First folder, or file, of the package that a module belongs to."""
    return [*module.split("."), ""][1]


def private_imports(root: Path = ROOT) -> list[tuple[str, str, str]]:
    """Imports of what another folder does not offer: a private module of it, or a private name."""
    found = []
    for module, origin, name in imports(root):
        home, other = package_of(module), package_of(origin)
        is_private = any(part.startswith("_") for part in [*origin.split(".")[2:], name])
        if home and other and home != other and is_private:
            found.append((module, origin, name))
    return found


def imports_for_the_package(root: Path = ROOT) -> list[tuple[str, str, str]]:
    """Imports of what another public folder offers, but not in its ``__all__``."""
    public = {
        module: ast.literal_eval(node.value)
        for module, tree in modules(root).items()
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    }
    found = []
    for module, origin, name in imports(root):
        home, other = package_of(module), package_of(origin)
        is_folder = origin.endswith(f".{name}")
        if home == other or not other or other.startswith("_") or is_folder:
            continue
        if name not in public.get(origin, [name]):
            found.append((module, origin, name))
    return found


def private_uses_of_models(root: Path = ROOT) -> list[tuple[str, str]]:
    """Modules above ``model``, and the private members of its classes that they use."""
    trees = modules(root)
    defined = {
        _defined(statement)
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if package_of(module) == "model" and isinstance(node, ast.ClassDef)
        for statement in node.body
    }
    # Not those that another package prescribes, such as _repr_html_.
    private = {name for name in defined if name.startswith("_") and not name.endswith("_")}
    return [
        (module, name)
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if package_of(module) in ABOVE_MODEL and (name := _used(node)) in private
    ]


def _defined(statement: ast.stmt) -> str:
    """Name that a statement of a class defines, or ''."""
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0])
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target)
    return getattr(statement, "name", "")


def _used(node: ast.AST) -> object:
    """Name of the member of something that is used here, if any."""
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
        return node.attr
    return node.value if isinstance(node, ast.Constant) else None


def functions(root: Path = ROOT, *, docstrings: bool = True) -> dict[str, int]:
    """Lines of every function, with or without those of its docstring."""
    found = {}
    for module, tree in modules(root).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if not docstrings and ast.get_docstring(node) is not None:
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                found[f"{module}.{node.name}"] = lines
    return found


def counts(root: Path = ROOT) -> dict[str, int]:
    """What the table shows."""
    files = list((root / "src" / PACKAGE).rglob("*.py"))
    lines = {path: len(path.read_text().splitlines()) for path in files}
    folders = defaultdict(int)
    for path in files:
        folders[path.parent] += path.name != "__init__.py"
    return {
        "files": len(files),
        "files at the root": folders[root / "src" / PACKAGE],
        "most files in a folder": max(folders.values()),
        "lines": sum(lines.values()),
        "lines of the longest file": max(lines.values()),
        "lines of the longest function": max(functions(root).values()),
        "the same without docstrings": max(functions(root, docstrings=False).values()),
        "private imports across folders": len(private_imports(root)),
        "imports for the package alone": len(imports_for_the_package(root)),
        "private uses of models": len(private_uses_of_models(root)),
        "circles of imports": len(circles(root)),
    }


def counts_at(commit: str) -> dict[str, int]:
    """What the table shows, of an earlier commit."""
    source = subprocess.check_output(["git", "-C", str(ROOT), "archive", commit, "src"])
    with TemporaryDirectory() as folder, tarfile.open(fileobj=BytesIO(source)) as archive:
        archive.extractall(folder, filter="data")
        return counts(Path(folder))


def run() -> None:
    """Count this commit, and the one before the tree was put in order."""
    from _record import SOURCE, save  # where there is git: tests import this file without

    trees = {"before": counts_at(BEFORE) | {"commit": BEFORE}}
    trees["now"] = counts() | {"commit": SOURCE["commit"]}
    save("structure", [{"tree": tree} | of for tree, of in trees.items()])


def tables() -> dict[str, str]:
    """Give the table of the documentation."""
    from _record import load, markdown

    before, now = load("structure")["results"]
    titles = [title for title in now if title not in ("tree", "commit")]
    rows = [{"title": title, "before": before[title], "now": now[title]} for title in titles]
    columns = {"": "{title}"}
    for name, of in (("before", before), ("now", now)):
        columns[f"{name} (`{of['commit'][:7]}`)"] = f"{{{name}:,}}"
    return {"counts": markdown(rows, columns)}


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        run()
    for title, number in counts().items():
        print(f"{title:32}{number:8,}")
