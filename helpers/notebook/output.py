"""How something reaches the reader: an output of the cell, or plain text where there is no IPython."""

from __future__ import annotations

import sys


def display(bundle: dict, metadata: dict | None = None) -> None:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        from IPython.display import display

        display(bundle, raw=True, metadata=metadata or {})
    elif "text/plain" in bundle:
        print(bundle["text/plain"])
