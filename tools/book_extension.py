"""The book's Sphinx extension: from portable notebooks to the pages of the book.

Notebooks hold plain Markdown, so that they read well everywhere. Here, at build time,

- call-outs (``> **Exercise 1.** …``) become admonitions with a link target (``#exercise-1``);
- equations with a ``\\tag{2.1}`` become link targets (``#equation-2.1``), as does every ``<a id="…"></a>``;
- links into the back matter become citations, terms with their definition, and links to the API, and the back matter
  says which chapters link to it;
- a chapter's number is the one in its file name (``code/02_vae`` is chapter 2 of the part Code);
- each executed page shows when, with what and in how many seconds it ran;
- no page asks another host for anything.

Outputs of cells are in ``book_outputs``, the bibliography and the API in ``book_backmatter``.
"""

from __future__ import annotations

import datetime
import html
import importlib.util
import json
import re
import shutil
from pathlib import Path

import book_backmatter
import book_outputs
from docutils import nodes
from docutils.transforms import Transform
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
KINDS = (
    "Exercise|Definition|Theorem|Lemma|Proposition|Corollary|Example|Remark|Key idea|Proof box|Proof|Pitfall|Question|"
    "Predict first|Quiz|Misconception|Algorithm|Try this"
)
CALLOUT = re.compile(rf"({KINDS})(?:\s+(\d+(?:\.\d+)*))?\s*([(★☆].*?)?[.:]?\s*", re.DOTALL)
ANCHOR = re.compile(r'<a (?:id|name)="([^"]+)">')
TAG = re.compile(r"\\tag\{([^}]*)\}")
CHAPTER = re.compile(r"book/(\w+)/(\d+)_\w+")
SYMBOLS = {"mid": "|", "Vert": "‖", "sum": "Σ", "int": "∫", "mu": "μ", "sigma": "σ", "varepsilon": "ε", "log": "log "}
BACK_MATTER = {"book/references": "citation", "book/glossary": "term", "book/reference": "api"}


class PortableMarkdown(Transform):
    """Call-outs, tagged equations, anchors and summaries; runs before MyST resolves ``[text](#target)`` (879)."""

    default_priority = 860

    def apply(self) -> None:
        for node in self.document.findall(lambda node: isinstance(node, nodes.Element) and "book_targets" in node):
            for slug in node["book_targets"]:
                self.target(node, slug, slug)
                self.describe(slug, node["book_text"])
        for quote in list(self.document.findall(nodes.block_quote)):
            self.callout(quote)
        for block in self.document.findall(nodes.math_block):
            self.equation(block)
        for raw in list(self.document.findall(nodes.raw)):
            if raw.get("format") == "html":
                self.anchor(raw)
                if "<summary>" in raw.astext():
                    replace_text(raw, summary_markup(raw.astext()))
        self.note_links()

    def target(self, node: nodes.Element, slug: str, title: str) -> None:
        """Make ``node`` the target of links to ``#slug``, from this page and from others."""
        env = self.document.settings.env
        slugs = env.metadata[env.docname].setdefault("myst_slugs", {})
        if slug in slugs:
            LOGGER.warning(f"two targets #{slug} on one page", location=node, type="book", subtype="target")
            return
        slugs[slug] = (node.line or 0, slug, title)
        self.document.myst_slugs = slugs
        node["ids"].append(slug)

    def describe(self, slug: str, text: str) -> None:
        """What hovering over a link to ``#slug`` shows."""
        env = self.document.settings.env
        env.metadata[env.docname].setdefault("book_titles", {})[slug] = text

    def callout(self, quote: nodes.block_quote) -> None:
        first = quote.children[0] if quote.children else None
        if not isinstance(first, nodes.paragraph):
            return
        while first.children and isinstance(first[0], nodes.Text) and not first[0].strip():
            first.pop(0)
        if not first.children or not isinstance(first[0], nodes.strong):
            return
        match = CALLOUT.fullmatch(first[0].astext())
        if not match:
            return
        kind, number, rest = match.groups()
        name = kind.lower().replace(" ", "-")
        box = nodes.admonition(classes=["callout", f"callout-{name}"])
        box.source, box.line = quote.source, quote.line
        title = nodes.title("", f"{kind} {number}" if number else kind)
        if rest:
            title += [nodes.Text(" "), nodes.inline("", rest, classes=["callout-note"])]
        first.pop(0)
        if first.children and isinstance(first[0], nodes.Text):
            first[0] = nodes.Text(first[0].lstrip())
        if not first.astext().strip():
            quote.remove(first)
        box += [title, *quote.children]
        quote.replace_self(box)
        if number:
            self.target(box, f"{name}-{number}", title.astext())

    def equation(self, block: nodes.math_block) -> None:
        """Take the tag out of the environment that Sphinx would put around it, where TeX forbids it."""
        match = TAG.search(block.astext())
        if not match:
            return
        self.target(block, f"equation-{match[1]}", f"({match[1]})")
        if not block.get("nowrap"):
            text = TAG.sub("", block.astext()).strip()
            if "\\\\" in text and r"\begin{" not in text:
                rows = "aligned" if "&" in text else "gathered"
                text = rf"\begin{{{rows}}}{text}\end{{{rows}}}"
            replace_text(block, rf"\[{text} {match[0]}\]")
            block["nowrap"] = True

    def anchor(self, raw: nodes.raw) -> None:
        match = ANCHOR.fullmatch(raw.astext().strip())
        if not match or not isinstance(raw.parent, nodes.paragraph):
            return
        paragraph, env = raw.parent, self.document.settings.env
        following = paragraph[paragraph.index(raw) + 1 :]
        closing = next((n for n in following if isinstance(n, nodes.raw) and n.astext().strip() == "</a>"), None)
        if closing is not None:
            paragraph.remove(closing)
        paragraph.remove(raw)
        text = paragraph.astext()
        if env.docname == "book/glossary":
            paragraph["classes"].append("glossary-term")
            self.describe(match[1], readable(paragraph).partition(": ")[2].partition(" → ")[0])
        self.target(paragraph, match[1], text.partition(":")[0])

    def note_links(self) -> None:
        """Remember which entries of the back matter this page links to."""
        env = self.document.settings.env
        links = env.metadata[env.docname]["book_links"] = {}
        for node in self.document.findall(lambda n: n.get("refdomain") == "doc" if hasattr(n, "get") else False):
            if node.get("reftarget") in BACK_MATTER and node.get("reftargetid"):
                links.setdefault(node["reftarget"], []).append(node["reftargetid"])


def readable(node: nodes.Element) -> str:
    """The text of a node for a tooltip, which cannot show TeX."""
    if not isinstance(node, nodes.math):
        return "".join(readable(child) for child in node.children) if node.children else node.astext()
    text = re.sub(r"\\(?:text|mathbb|mathcal)\{(\w+)\}", r"\1", node.astext())
    text = re.sub(r"\\frac(\w)(\w)", r"\1/\2 ", text)
    text = re.sub(r"\\(\w+)\s*", lambda match: SYMBOLS.get(match[1], match[1] + " "), text)
    return re.sub(r"[\\{}]|(?<=\W)\s+(?=\W)", "", text).strip()


def replace_text(node: nodes.TextElement, text: str) -> None:
    node.rawsource = text
    node.children = []
    node += nodes.Text(text)


def summary_markup(text: str) -> str:
    """Mathematics and code inside ``<summary>``, which Markdown leaves alone."""

    def inside(match: re.Match) -> str:
        body = re.sub(r"`([^`]+)`", r"<code>\1</code>", match[2])
        body = re.sub(
            r"(?<![\\$])\$([^$\s][^$]*)\$", r'<span class="math notranslate nohighlight">\\(\1\\)</span>', body
        )
        return match[1] + body + match[3]

    return re.sub(r"(<summary>)(.*?)(</summary>)", inside, text, flags=re.DOTALL)


class BackMatterLinks(SphinxPostTransform):
    """Give links into the back matter their class and, on hovering, the entry's text; entries get links back."""

    default_priority = 11  # after MyST has resolved the links (9)

    def run(self, **kwargs) -> None:
        for name, kind in BACK_MATTER.items():
            titles = self.env.metadata[name].get("book_titles", {})
            page = Path(name).name + ".html#"
            for link in self.document.findall(nodes.reference):
                page_of_link, _, entry = link.get("refuri", "").partition("#")
                if entry and (page_of_link + "#").endswith(page) and "://" not in page_of_link:
                    link["classes"].append(f"link-{kind}")
                    if entry in titles:
                        link["reftitle"] = titles[entry]
        if self.env.docname in BACK_MATTER:
            self.links_back()

    def links_back(self) -> None:
        users: dict[str, list[str]] = {}
        for page, metadata in sorted(self.env.metadata.items()):
            for entry in dict.fromkeys(metadata.get("book_links", {}).get(self.env.docname, [])):
                if page != self.env.docname:
                    users.setdefault(entry, []).append(page)
        for slot in list(self.document.findall(book_backmatter.used_in)):
            pages = list(dict.fromkeys(page for entry in slot["entries"] for page in users.get(entry, [])))
            links = nodes.inline(classes=["used-in"])
            for page in pages:
                uri = self.app.builder.get_relative_uri(self.env.docname, page)
                links += nodes.Text(", " if links.children else " Used in ")
                links += nodes.reference("", chapter_title(self.env, page), refuri=uri, internal=True)
            slot.replace_self([links, nodes.Text(".")] if pages else [])


def chapter_number(page: str) -> str:
    """``book/code/02_vae`` → ``2``; a page without a number → ``""``."""
    match = CHAPTER.fullmatch(page)
    return str(int(match[2])) if match else ""


def chapter_title(env, page: str) -> str:
    return f"{chapter_number(page)} {env.titles[page].astext()}".strip()


def number_chapters(app: Sphinx, env) -> None:
    """Show the number of a chapter's file name in the navigation."""
    for page, contents in env.tocs.items():
        if chapter_number(page) and (link := contents.next_node(nodes.reference)) is not None:
            link["secnumber"] = (chapter_number(page),)


def stamp(record: dict) -> str:
    """One line that says when, with what and in how many seconds a page was executed."""
    parts = []
    if when := record.get("when"):
        if isinstance(when, int | float):
            when = datetime.datetime.fromtimestamp(when, datetime.UTC).isoformat()
        parts.append(f"on {html.escape(str(when)[:10])}")
    versions = record.get("versions") or {}
    with_what = [
        f"{label} {versions[name]}" for name, label in (("python", "Python"), ("torch", "PyTorch")) if name in versions
    ]
    device = versions.get("device") or record.get("device") or {"laptop": "CPU", "gpu": "GPU"}.get(record.get("size"))
    if with_what:
        parts.append(
            "with " + html.escape(" and ".join(with_what)) + (f" ({html.escape(str(device))})" if device else "")
        )
    parts.append(f"in {record['seconds']:.0f} s")
    if record.get("peak_mb"):
        parts.append(f"using {record['peak_mb'] / 1024:.1f} GB of memory")
    return '<p class="stamp">Executed ' + ", ".join(parts) + ".</p>"


def page_context(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Put the part, the number and the stamp around the page's title."""
    if "body" not in context or doctree is None:
        return
    body = context["body"]
    if match := CHAPTER.fullmatch(pagename):
        part = {"math": "Mathematics", "faq": "FAQ"}.get(match[1], match[1].capitalize())
        above = f'<p class="chapter-number">{part} <span aria-hidden="true">·</span> chapter {int(match[2])}</p>\n'
        body = re.sub(r"<h1[ >]", lambda m: above + m[0], body, count=1)
    source = Path(app.env.doc2path(pagename)).relative_to(app.srcdir).as_posix()
    record = executions(app).get(source)
    if record and "seconds" in record:
        body = body.replace("</h1>", "</h1>\n" + stamp(record), 1)
    elif source.endswith(".ipynb"):
        body = body.replace("</h1>", '</h1>\n<p class="stamp">Not executed.</p>', 1)
    # The size as attributes, not as a style: the browser then keeps the place and the proportions of a picture.
    context["body"] = re.sub(r'style="width: (\d+)px; height: (\d+)px;?"', r'width="\1" height="\2"', body)


def executions(app: Sphinx) -> dict:
    """What the executor wrote; nothing where nothing was executed."""
    path = Path(app.srcdir) / "_build" / "execution.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """The one MathJax configuration that the book needs, with its fonts: 1.7 of the package's 24 MB."""
    if error is not None or app.builder.format != "html":
        return
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None:
        raise ModuleNotFoundError("the book's mathematics needs: pip install sphinx-mathjax-offline")
    source = Path(package.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2"):
        if not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (source / name).is_dir() else shutil.copy
            copy(source / name, target / name)


def remove_unused(app: Sphinx, error: Exception | None) -> None:
    """The theme's copy of Font Awesome as a script (1.5 MB): its web fonts draw the same icons."""
    if error is None and app.builder.format == "html":
        for path in (Path(app.outdir) / "_static" / "scripts").glob("fontawesome.js*"):
            path.unlink()


def setup(app: Sphinx) -> dict:
    app.add_config_value("comments_config", {}, "env")  # jupyter-book sets it even without sphinx_comments
    app.add_transform(PortableMarkdown)
    app.add_post_transform(BackMatterLinks)
    app.connect("env-updated", number_chapters)
    app.connect("html-page-context", page_context)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", remove_unused)
    book_outputs.setup(app)
    book_backmatter.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
