"""The bibliography (from ``references.bib``) and the API of ``helpers`` (from its source, which is never imported)."""

from __future__ import annotations

import ast
import html
import io
import keyword
import re
import tokenize
from pathlib import Path

import yaml
from docutils import nodes
from pybtex.database import Entry, Person, parse_file
from pybtex.exceptions import PybtexError
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class used_in(nodes.General, nodes.Element):
    """Stands for the links back to the chapters that refer to ``entries``; resolved in ``book_extension``."""


def link_target(node: nodes.Element, text: str, *slugs: str) -> None:
    """Let pages link to ``#slug``; ``text`` is shown on hovering over such a link. Registered by ``book_extension``."""
    node["book_targets"], node["book_text"] = slugs, text


# The bibliography


class Bibliography(SphinxDirective):
    """Every entry of a BibTeX file, by author and year, with the chapters that cite it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(name)
        try:
            entries = parse_file(path).entries
        except PybtexError as error:
            raise self.error(f"{name}: {error}") from error
        result = nodes.bullet_list(classes=["bibliography"])
        for key, entry in sorted(entries.items(), key=lambda item: (authors(item[1]), item[1].fields.get("year", ""))):
            missing = [field for field in ("title", "year") if field not in entry.fields]
            if missing or not entry.persons.get("author"):
                raise self.error(f"{name}: the entry {key} has no {' and no '.join(missing or ['author'])}")
            paragraph = nodes.paragraph("", "", *reference(entry))
            plain = paragraph.astext()
            paragraph += [nodes.Text(" "), used_in(entries=[key])]
            item = nodes.list_item("", paragraph)
            link_target(item, plain, key)
            result += item
        return [result]


def reference(entry: Entry) -> list[nodes.Node]:
    fields = {name: plain(text) for name, text in entry.fields.items()}
    where = fields.get("journal") or fields.get("booktitle") or fields.get("publisher") or fields.get("institution")
    details = [text for text in (where, fields.get("note")) if text]
    if "volume" in fields:
        details.append(fields["volume"] + (f"({fields['number']})" if "number" in fields else ""))
    if "pages" in fields:
        details.append(fields["pages"].strip())
    address = fields.get("url") or ""
    if "doi" in fields:
        address = f"https://doi.org/{fields['doi']}"
    elif "eprint" in fields:
        address = f"https://arxiv.org/abs/{fields['eprint']}"
    title = nodes.emphasis("", fields["title"])
    return [
        nodes.strong("", f"{authors(entry)} ({fields['year']})"),
        nodes.Text(". "),
        nodes.reference("", "", title, refuri=address) if address else title,
        nodes.Text(". " + ", ".join(details) + "." if details else "."),
    ]


def authors(entry: Entry) -> str:
    def name(person: Person) -> str:
        initials = " ".join(plain(first)[0] + "." for first in person.first_names + person.middle_names)
        return " ".join([*map(plain, person.prelast_names), *map(plain, person.last_names), initials]).strip()

    people = entry.persons["author"]
    names = [name(person) for person in people[:8]] + (["others"] if len(people) > 8 else [])
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plain(text: str) -> str:
    """BibTeX text without its protecting braces; accents stand in the file as they are (it is UTF-8)."""
    if "\\" in text:
        raise ValueError(f"references.bib: write letters as they are, not as LaTeX, in {text!r}")
    return re.sub(r"[{}]", "", text).replace("--", "–")


# The API


class Api(SphinxDirective):
    """Modules, classes and functions of a package: signature, docstring, source, link to the repository."""

    required_arguments = 1
    has_content = True  # the package's rooms, in the order of the page

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir) / self.arguments[0]
        order = list(self.content)
        files = sorted(
            path for path in root.rglob("*.py") if not path.name.startswith("_") or path.name == "__init__.py"
        )
        self.short = short_names(root)
        rank = {name: i for i, name in enumerate(order)}
        result = []
        for path in sorted(files, key=lambda p: (rank.get(room(p, root), len(rank)), p)):
            self.env.note_dependency(path.relative_to(self.env.srcdir).as_posix())
            result += self.module(path)
        return result

    def module(self, path: Path) -> list[nodes.Node]:
        relative = path.relative_to(self.env.srcdir)
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        tree, lines = ast.parse(text), text.splitlines()
        things = [node for node in tree.body if is_public(node)]
        if not things and path.name == "__init__.py" and not ast.get_docstring(tree):
            return []
        section = nodes.section()
        section += nodes.title("", "", nodes.literal("", name))
        link_target(section, summary(tree), name)
        section += docstring(ast.get_docstring(tree))
        for thing in things:
            section += self.entry(thing, f"{name}.{thing.name}", relative, lines)
            if isinstance(thing, ast.ClassDef):
                for method in filter(is_public, thing.body):
                    section += self.entry(method, f"{name}.{thing.name}.{method.name}", relative, lines)
        return [section]

    def entry(self, node, name: str, path: Path, lines: list[str]) -> nodes.Element:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        own = lines[first - 1 : node.end_lineno]
        if isinstance(node, ast.ClassDef):  # the public methods follow with their own source
            hidden = {i for m in filter(is_public, node.body) for i in method_lines(m)}
            own = [line for i, line in enumerate(lines[first - 1 : node.end_lineno], first) if i not in hidden]
        box = nodes.container(classes=["api-entry", "api-class" if isinstance(node, ast.ClassDef) else "api-def"])
        shown = self.short_name(name)
        link_target(box, f"{shown}: {summary(node)}".rstrip(": "), *dict.fromkeys([name, shown]))
        address = f"{repository(self.env)}/{path.as_posix()}#L{first}-L{node.end_lineno}"
        head = f'<p class="api-name"><code>{signature(node, shown)}</code></p>'
        source = (
            f'<details class="api-source"><summary>Source</summary><p><a href="{html.escape(address)}">'
            f'{path.as_posix()}, line {first}</a></p><pre tabindex="0">{light_highlight(own)}</pre></details>'
        )
        box += nodes.raw("", head, format="html")
        box += docstring(ast.get_docstring(node))
        box += nodes.paragraph("", "", used_in(entries=[name, shown]))
        box += nodes.raw("", source, format="html")
        return box

    def short_name(self, name: str) -> str:
        """``helpers.training.loop.fit`` is imported as ``helpers.training.fit``; its methods likewise."""
        for full, short in self.short.items():
            if name == full or name.startswith(full + "."):
                return short + name[len(full) :]
        return name


def short_names(root: Path) -> dict[str, str]:
    """What each package takes from its modules, by full name."""
    result = {}
    for path in sorted(root.rglob("__init__.py")):
        package = ".".join(path.parent.relative_to(root.parent).parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package + "."):
                for name in node.names:
                    short = name.asname or name.name
                    if not (path.parent / f"{short}.py").exists():  # else the short name is the module's
                        result[f"{node.module}.{name.name}"] = f"{package}.{short}"
    return result


def room(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def is_public(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")


def method_lines(node: ast.FunctionDef) -> range:
    return range(min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.end_lineno + 1)


def summary(node: ast.AST) -> str:
    text = (ast.get_docstring(node) or "").partition("\n\n")[0]
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", " ".join(text.split())).replace("``", "")


def signature(node: ast.AST, name: str) -> str:
    path, _, last = name.rpartition(".")
    shown = f'<span class="api-path">{html.escape(path)}.</span><strong>{html.escape(last)}</strong>'
    if isinstance(node, ast.ClassDef):
        init = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"), None)
        return f"class {shown}" + (arguments(init, skip=1) if init else "")
    is_property = any(ast.unparse(d).split(".")[-1] in ("property", "cached_property") for d in node.decorator_list)
    returns = f" → {html.escape(ast.unparse(node.returns))}" if node.returns else ""
    is_method = node.args.args[:1] and node.args.args[0].arg in ("self", "cls")
    return shown + ("" if is_property else arguments(node, skip=int(bool(is_method)))) + returns


def arguments(node: ast.FunctionDef, skip: int) -> str:
    args = node.args
    args = ast.arguments(
        args.posonlyargs, args.args[skip:], args.vararg, args.kwonlyargs, args.kw_defaults, args.kwarg, args.defaults
    )
    return html.escape(f"({ast.unparse(args)})")


def repository(env) -> str:
    """The address of the repository's files, from the one place that holds it."""
    config = yaml.safe_load((Path(env.srcdir) / "_config.yml").read_text(encoding="utf-8")).get("repository", {})
    return f"{config.get('url', '').rstrip('/')}/blob/{config.get('branch', 'main')}"


def docstring(text: str | None) -> list[nodes.Element]:
    """Paragraphs, lists, ``code`` and indented blocks of a docstring; anything else stays as it is written."""
    result: list[nodes.Element] = []
    for block in re.split(r"\n\s*\n", (text or "").strip()):
        lines = block.splitlines()
        if not lines:
            continue
        if all(line.startswith("    ") for line in lines):
            result.append(nodes.literal_block("", "\n".join(line[4:] for line in lines), language="text"))
            continue
        head = []
        while lines and not re.match(r"\s+\S|[-*] ", lines[0]):
            head.append(lines.pop(0))
        if head:
            shown = " ".join(head)
            result.append(nodes.paragraph("", "", *inline(shown[:-1] if shown.endswith("::") else shown)))
        if lines:
            result.append(items(lines))
    return result


def items(lines: list[str]) -> nodes.bullet_list:
    """``- item`` or ``name: what it is``, with indented continuations."""
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    texts: list[str] = []
    for line in lines:
        own = line[indent:]
        if own.startswith(" ") and texts:
            texts[-1] += " " + own.strip()
        else:
            texts.append(re.sub(r"^[-*] ", "", own))
    result = nodes.bullet_list()
    for item in texts:
        name = re.match(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: ", item)
        content = [nodes.literal("", name[1]), *inline(item[len(name[1]) :])] if name else inline(item)
        result += nodes.list_item("", nodes.paragraph("", "", *content))
    return result


def inline(text: str) -> list[nodes.Node]:
    result: list[nodes.Node] = []
    for part in re.split(r"(``.+?``|:\w+:`[^`]+`|`[^`]+`|\$[^$\s][^$]*\$)", text):
        if part.startswith(":math:"):
            result.append(nodes.math("", part[7:-1]))
        elif part.startswith("$") and part.endswith("$") and len(part) > 2:
            result.append(nodes.math("", part[1:-1]))
        elif part.endswith("`") and "`" in part[:-1]:
            result.append(nodes.literal("", re.sub(r"^:\w+:", "", part).strip("`").lstrip("~")))
        elif part:
            result.append(nodes.Text(part))
    return result


def light_highlight(lines: list[str]) -> str:
    """Keywords, comments and strings only: a tenth of the elements that a full highlighter makes."""
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    text = "\n".join(line[indent:] for line in lines) + "\n"
    marks, starts = [], [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = {tokenize.COMMENT: "c", tokenize.STRING: "s"}.get(token.type)
            if token.type == tokenize.NAME and keyword.iskeyword(token.string):
                kind = "k"
            if kind:
                marks.append(
                    (starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1], kind)
                )
    except (tokenize.TokenError, IndentationError):  # a class without some of its methods need not be whole
        pass
    out, at = [], 0
    for begin, end, kind in marks:
        out += [html.escape(text[at:begin]), f'<span class="{kind}">{html.escape(text[begin:end])}</span>']
        at = end
    return "".join(out) + html.escape(text[at:]).rstrip()


def setup(app: Sphinx) -> None:
    app.add_node(used_in)
    app.add_directive("book-bibliography", Bibliography)
    app.add_directive("book-api", Api)
