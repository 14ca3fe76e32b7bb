"""A trained model in the reader's browser: one exporter, one JavaScript runtime, one ES module a playground.

In a notebook::

    from helpers import playground

    decode = playground.export(vae.decode_mean, torch.zeros(1, 2), names=["z"])  # any function of tensors
    playground.show("latent_plane", graphs={"decode": decode}, params={...}, still=figure, alt="What the still shows.")
    widget = playground.live("latent_plane", graphs={"decode": decode}, params={...})  # with a kernel: widget.z

``show`` puts three things into the cell's output: ``text/html``, self-contained (runtime, module, weights and still
inlined), for JupyterLab, Colab, VS Code and slides; ``application/vnd.book.playground+json``, the *bundle*, for the
book; ``text/plain``, the alternative text.

What builds the book needs two functions and no knowledge of the formats. For each output that has the MIME type
``playground.MIME``, whose data is the ``bundle`` (a dict, JSON):

- ``playground.book_files(bundle) -> {filename: text}``: write these into one folder that all pages share, say
  ``_static/playgrounds/``. Names hold a digest of their text, so that equal files are written once and none is stale
  (``mount.js`` alone has a fixed name).
- ``playground.book_html(bundle, base) -> str``: put this HTML where the output stands. ``base`` is the address of
  that folder relative to the page, without a final slash: ``../../_static/playgrounds``. It is a light ``<div>`` with
  the still inside (inline PNG with its alternative text: what a reader without scripts sees), and one deferred
  classic script, ``mount.js``, which loads module and weights by ``<script src>`` when the div comes into view or is
  touched. It works over http and from ``file://``; nothing else has to be added to the page.
"""

from helpers.playground.display import MIME, book_files, book_html, live, show
from helpers.playground.export import export

__all__ = ["MIME", "book_files", "book_html", "export", "live", "show"]
