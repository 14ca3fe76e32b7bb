"""How the outputs of cells appear in the book: figures for both themes, playgrounds, bound values, no widget state."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path
from typing import Any, ClassVar

import myst_nb.core.render as myst_nb_render
from docutils import nodes
from docutils.transforms import Transform
from sphinx.application import Sphinx

FIGURE = "application/vnd.book.figure+json"
VALUES = "application/vnd.book.values+json"
PLAYGROUND = "application/vnd.book.playground+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
TEXT_WIDTH = 720  # CSS pixels: a wider figure may leave the column of text


class BookOutputs:
    """A plugin of myst-nb: ``handle_mime`` returns the nodes of one MIME type, or None to leave it to myst-nb."""

    # The richest form first. A widget needs a kernel: its still or picture is shown where it has one, else nothing.
    mime_priority_overrides: ClassVar[list[tuple[str, str, int]]] = [
        ("*", PLAYGROUND, 1),
        ("*", FIGURE, 2),
        ("*", VALUES, 3),
        ("*", "image/webp", 45),
        ("*", WIDGET, 95),
    ]

    @staticmethod
    def handle_mime(renderer, data, inline: bool) -> list[nodes.Element] | None:
        if data.mime_type == PLAYGROUND:
            return playground(renderer, data.content)
        if data.mime_type == FIGURE:
            return figure(renderer, data.content)
        if data.mime_type in ("image/png", "image/webp", "image/gif"):
            return [picture(renderer, data.content, data.mime_type, data.output_metadata)]
        if data.mime_type in (VALUES, WIDGET):
            return [nodes.raw("", "", format="html")]
        return None


def figure(renderer, content: dict) -> list[nodes.Element]:
    """The dark rendering; for an animation, the moving pictures too. The light still is the bundle's ``image/png``."""
    images = [picture(renderer, content["dark"], "image/png", content, "only-dark")]
    for key, theme in (("moving", "only-light"), ("moving_dark", "only-dark")):
        if key in content:
            images.append(picture(renderer, content[key], "image/webp", content, theme, "moving"))
    return images


class FigureForBothThemes(Transform):
    """Put the light rendering, which is a MIME type of its own, beside the others."""

    default_priority = 850

    def apply(self) -> None:
        for bundle in self.document.findall(nodes.container):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            by_type = {child["mime_type"]: child for child in bundle.children}
            if FIGURE not in by_type or "image/png" not in by_type:
                continue
            images = by_type[FIGURE].children
            light = by_type["image/png"].children[0].deepcopy()
            light["classes"].append("only-light")
            light["alt"] = images[0]["alt"]
            images = [light, *images]
            if any("moving" in image["classes"] for image in images):
                for image in images:
                    if "moving" not in image["classes"]:
                        image["classes"].append("still")
            wide = float(light.get("width", 0)) > TEXT_WIDTH
            by_type[FIGURE].children = []
            by_type[FIGURE] += nodes.container("", *images, classes=["book-figure", *(["wide"] if wide else [])])


def picture(renderer, content: str, mime_type: str, metadata: dict[str, Any], *classes: str) -> nodes.image:
    """An image file beside the page, with alternative text and its size, so that nothing moves while it loads."""
    data = base64.b64decode(content)
    name = f"{nodes.make_id(metadata.get('name', 'figure'))}-{digest(data)}.{mime_type.partition('/')[2]}"
    options = {**metadata, **metadata.get(mime_type, {})}
    image = nodes.image(uri=renderer.write_file([name], data, exists_ok=True), alt=options.get("alt", ""))
    image["loading"] = "lazy"
    image["classes"] += classes
    for side in ("width", "height"):
        if side in options:
            image[side] = str(round(float(options[side])))
    return image


def playground(renderer, bundle: dict) -> list[nodes.Element]:
    """A light ``<div>`` with a still; the module and its weights lie in ``_static/playgrounds``."""
    from helpers.playground.display import book_files, book_html

    env = renderer.renderer.sphinx_env
    for name, text in book_files(bundle).items():
        renderer.write_file(["playgrounds", name], text.encode(), overwrite=True)
        env.metadata[env.docname].setdefault("book_playgrounds", []).append(name)
    base = "../" * env.docname.count("/") + "_static/playgrounds"
    return [nodes.raw("", book_html(bundle, base), format="html", classes=["output"])]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def copy_playgrounds(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    source = Path(app.outdir).parent / "jupyter_execute" / "playgrounds"
    target = Path(app.outdir) / "_static" / "playgrounds"
    names = {name for metadata in app.env.metadata.values() for name in metadata.get("book_playgrounds", [])}
    for name in sorted(names):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def drop_widget_state(app: Sphinx, env) -> None:
    """A widget's state belongs to a kernel: keep it, and the 4 MB that draw it, out of the pages."""
    for metadata in getattr(env, "nb_metadata", {}).values():
        for key in [key for key in metadata.get("js_files", {}) if key.startswith("ipywidgets")]:
            del metadata["js_files"][key]


def setup(app: Sphinx) -> None:
    plugins = myst_nb_render.load_mime_renders()  # a cached list: the same one at each call
    if BookOutputs not in plugins:
        plugins.append(BookOutputs)
    app.add_transform(FigureForBothThemes)
    app.connect("env-updated", drop_widget_state)
    app.connect("build-finished", copy_playgrounds)
