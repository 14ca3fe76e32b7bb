"""How a playground reaches the page: ``show`` (an output of the notebook), ``live`` (a widget), and the book's files.

A playground is one ES module beside this file, with anywidget's contract ``render({ model, el })``. It may import
from the other files there (``./runtime.js``, ``./controls.js``, …). A classic script can import nothing, and
``import`` fails on ``file://`` and in Colab's output frame, so the files are joined here into one text without imports.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import io
import json
import re
import uuid
from pathlib import Path

MIME = "application/vnd.book.playground+json"
HERE = Path(__file__).parent
MODULES = sorted(path.stem for path in HERE.glob("*.js") if "\nexport default " in path.read_text(encoding="utf-8"))
IMPORT = re.compile(r'^import [^;]*"\./(\w+)\.js";\n', flags=re.M)


@functools.cache
def joined(module: str) -> str:
    """The module behind the files that it imports, as one script; it ends by ``export default { … };``."""
    if module not in MODULES:
        raise ValueError(f"no playground is called {module!r}: there are {', '.join(MODULES)}")
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        text = (HERE / f"{name}.js").read_text(encoding="utf-8")
        for other in IMPORT.findall(text):
            if other not in parts:
                add(other)
        parts[name] = IMPORT.sub("", text)

    add(module)
    text = "\n".join(parts.values())
    return re.sub(r"^export (?=const|function|class)", "", text, flags=re.M)


def classic(module: str) -> str:
    """The joined script as a classic one: an expression whose value is the module ``{ render }``."""
    body = joined(module).replace("export default ", "return ")
    return f"(() => {{\n{body}\n}})()"


def script_json(value) -> str:
    """JSON that may stand inside ``<script>``."""
    return json.dumps(value, separators=(",", ":")).replace("</", "<\\/").replace("<!--", "<\\!--")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def png(still) -> str:
    """A matplotlib figure or PNG bytes, as base64 text."""
    if hasattr(still, "savefig"):
        buffer = io.BytesIO()
        still.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
        still = buffer.getvalue()
    if not isinstance(still, bytes) or not still.startswith(b"\x89PNG"):
        raise ValueError(f"the still must be a matplotlib figure or the bytes of a PNG, got {type(still).__name__}")
    return base64.b64encode(still).decode()


def first_state(graphs: dict, state: dict | None) -> dict:
    """What Python and page share: ``state``, or each input of the first graph, at zero and without batch."""
    if state is not None:
        return dict(state)
    inputs = next(iter(graphs.values()))["inputs"] if graphs else []
    return {i["name"]: nested_zeros([d for d in i["shape"] if isinstance(d, int)]) for i in inputs}


def nested_zeros(shape: list[int]):
    return [nested_zeros(shape[1:]) for _ in range(shape[0])] if shape else 0.0


def make_bundle(module: str, graphs: dict, params: dict, state: dict | None, still, alt: str) -> dict:
    joined(module)
    if not alt.strip():
        raise ValueError("a playground needs alt=…: one sentence that says what its still shows")
    bundle = {"module": module, "graphs": graphs, "params": params, "state": first_state(graphs, state)}
    return json.loads(json.dumps(bundle | {"still": png(still), "alt": alt}))  # fails here if it is not plain JSON


def still_html(bundle: dict) -> str:
    alt = html.escape(bundle["alt"])
    return f'<img src="data:image/png;base64,{bundle["still"]}" alt="{alt}" style="max-width:100%">'


def values(bundle: dict) -> dict:
    """What the module's ``model`` holds."""
    return {"graphs": bundle["graphs"], "params": bundle["params"], **bundle["state"]}


def standalone_html(bundle: dict) -> str:
    """One piece of HTML with everything inside, for JupyterLab, Colab, VS Code and slides."""
    name = f"playground-{uuid.uuid4().hex[:12]}"
    mount = (HERE / "mount.js").read_text(encoding="utf-8")
    # A notebook may show one output in two views, hence all elements of that id.
    return (
        f'<div id="{name}" class="book-playground">{still_html(bundle)}</div>\n<script>\n{mount}\n'
        f"bookPlaygrounds.inline({json.dumps(name)}, {classic(bundle['module'])}, {script_json(values(bundle))});\n"
        "</script>"
    )


def book_files(bundle: dict) -> dict[str, str]:
    """The files that a page with this playground needs, by name: see the package's docstring."""
    code, data = book_scripts(bundle)
    return {"mount.js": (HERE / "mount.js").read_text(encoding="utf-8"), code[0]: code[1], data[0]: data[1]}


def book_scripts(bundle: dict) -> list[tuple[str, str]]:
    """(name, text) of the module's script and of the script that holds weights and parameters."""
    module, text = bundle["module"], classic(bundle["module"])
    data = script_json(values(bundle))
    code_name, data_name = f"{module}-{digest(text)}", f"{module}-data-{digest(data)}"
    return [
        (f"{code_name}.js", f"bookPlaygrounds.scripts[{json.dumps(code_name)}] = {text};\n"),
        (f"{data_name}.js", f"bookPlaygrounds.scripts[{json.dumps(data_name)}] = {data};\n"),
    ]


def book_html(bundle: dict, base: str) -> str:
    """A light ``<div>`` for a page whose playground files lie at ``base``: see the package's docstring."""
    code, data = (name.removesuffix(".js") for name, _ in book_scripts(bundle))
    base = html.escape(base.rstrip("/"))
    return (
        f'<div class="book-playground" data-base="{base}" data-code="{code}" data-values="{data}">'
        f"{still_html(bundle)}</div>\n"
        f'<script defer src="{base}/mount.js"></script>'
    )


def show(module: str, *, graphs: dict, params: dict, still, alt: str, state: dict | None = None) -> None:
    """Display a playground as the cell's output; works without a kernel from then on.

    ``graphs``: by name, what :func:`export` returned. ``params``: plain JSON values that the module's header
    describes. ``still``: a matplotlib figure or PNG bytes, seen where scripts are off, in print and in ePub.
    ``alt``: what the still shows. ``state``: first values; an input of the first graph that it does not name is zero.
    Raises ``ValueError`` for an unknown module, an empty ``alt``, a still that is no picture.
    """
    from IPython.display import display

    bundle = make_bundle(module, graphs, params, state, still, alt)
    display({"text/html": standalone_html(bundle), MIME: bundle, "text/plain": alt}, raw=True)
    if hasattr(still, "savefig"):
        import matplotlib.pyplot as plt

        plt.close(still)  # else the notebook would show the still once more below the playground


def live(module: str, *, graphs: dict, params: dict, state: dict | None = None):
    """The same playground as a widget: each entry of its state is a trait that Python reads and writes.

    ``widget.z`` is what the reader dragged last, ``widget.z = [0.5, 1.0]`` moves the picture, and
    ``widget.observe(f, "z")`` calls ``f`` at each move. Needs a kernel; ``ModuleNotFoundError`` without anywidget.
    """
    try:
        import anywidget
        import traitlets
    except ModuleNotFoundError as error:
        message = "a live playground needs anywidget: pip install 'generative-models-from-first-principles[notebooks]'"
        raise ModuleNotFoundError(message) from error

    start = {"graphs": graphs, "params": params, **first_state(graphs, state)}
    traits = {name: traitlets.Any(value).tag(sync=True) for name, value in start.items()}
    return type("Playground", (anywidget.AnyWidget,), {"_esm": joined(module), **traits})()
