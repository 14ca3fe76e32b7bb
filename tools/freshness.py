"""What a notebook's outputs depend on, told without running it."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import shutil
from functools import cache
from importlib import metadata
from pathlib import Path


def key_of(root: Path, code: list[tuple[str, list[str]]]) -> str:
    """The key of a notebook with these code cells (source, tags): equal keys, equal outputs."""
    found = Imports(root, code)
    digest = hashlib.sha256(repr((code, size_of(), os.environ.get("MAX_STEPS"), found.versions())).encode())
    for path in sorted(found.files):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(file_digest(path, path.stat().st_mtime_ns))
    return digest.hexdigest()[:32]


def versions_of(root: Path, code: list[tuple[str, list[str]]]) -> dict[str, str]:
    """Python and the packages that the notebook uses, as far as requirements.txt names them."""
    return Imports(root, code).versions()


def size_of() -> str:
    """The size at which chapters run here, as ``notebook.setup`` chooses it."""
    graphics = shutil.which("nvidia-smi") and "+cpu" not in (installed("torch") or "+cpu")
    return os.environ.get("SIZE") or ("gpu" if graphics else "laptop")


def plain_python(source: str) -> str:
    """The code of a cell without IPython's magic lines."""
    if source.startswith("%%") and not re.match(r"%%(time|timeit|capture)\b", source):
        return ""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


class Imports:
    """The files of this project, and the names of other packages, that some code imports, directly or not."""

    def __init__(self, root: Path, code: list[tuple[str, list[str]]]):
        self.root = root
        self.files: set[Path] = set()
        self.names: set[str] = {"torch", "numpy", "matplotlib"}
        for source, _ in code:
            self.read_code(plain_python(source), package="")

    def read_code(self, source: str, package: str) -> None:
        """Follow the imports of ``source``, a module of ``package``, wherever in it they stand."""
        modules, words = names_in(source, package)
        self.names |= {name.split(".")[0] for name in modules} | words
        for name in modules | {word for word in words if "." in word}:
            self.add_module(name)

    def add_module(self, name: str) -> None:
        """Add module ``name`` with its parents and the data files beside it, where it is one of this project."""
        for length in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:length])
            folder = self.root / part.replace(".", "/")
            path = folder / "__init__.py" if folder.is_dir() else folder.with_name(folder.name + ".py")
            if not path.is_file():
                return
            if path in self.files:
                continue
            self.files |= {path, *data_beside(path.parent)}
            source = path.read_text(encoding="utf8")
            package = part if path.name == "__init__.py" else part.rpartition(".")[0]
            self.read_code(source, package)
            if "import_module" in source:  # by a name that is made when it runs: it may be any of the package
                for other in path.parent.rglob("*.py"):
                    self.add_module(".".join(other.relative_to(self.root).with_suffix("").parts))

    def versions(self) -> dict[str, str]:
        """Python's version, and that of each package of requirements.txt that is imported or named in a string."""
        versions = {"python": platform.python_version()}
        for name in requirements(self.root):
            if {name.lower(), name.lower().replace("-", "_"), *import_names().get(name.lower(), ())} & self.names:
                versions[name] = installed(name) or "missing"
        return versions


@cache
def names_in(source: str, package: str) -> tuple[set[str], set[str]]:
    """Dotted names that may be modules, and the short strings, in ``source``."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # it will fail when it runs, and tell
        return set(), set()
    modules, words, alias = set(), set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                modules.add(item.name)
                alias[item.asname or item.name.split(".")[0]] = item.name if item.asname else item.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for item in node.names:
                modules |= {base, f"{base}.{item.name}"}
                alias[item.asname or item.name] = f"{base}.{item.name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 80:
            words.add(node.value)
    for node in ast.walk(tree):  # helpers.models.vae.VAE, after "import helpers"
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first in alias:
                modules.add(f"{alias[first]}.{rest}")
    return modules, words


def data_beside(folder: Path) -> list[Path]:
    """The files in ``folder`` that are no Python, and those of its subfolders that are no packages."""
    files = []
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            files += data_beside(path)
        elif path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith("."):
            files.append(path)
    return files


@cache
def file_digest(path: Path, changed: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@cache
def requirements(root: Path) -> list[str]:
    path = root / "requirements.txt"
    lines = path.read_text(encoding="utf8").splitlines() if path.exists() else []
    return [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))]


@cache
def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def import_names() -> dict[str, set[str]]:
    """Distribution (lower case) to the names under which it is imported."""
    names: dict[str, set[str]] = {}
    for module, distributions in metadata.packages_distributions().items():
        for distribution in distributions:
            names.setdefault(distribution.lower(), set()).add(module)
    return names
