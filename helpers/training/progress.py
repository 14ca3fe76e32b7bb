"""How far a training is: tqdm in a terminal, one updating display in a notebook, silence elsewhere."""

from __future__ import annotations

import sys
import time


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """``update(step, text)`` may be called at every step: it shows something at most four times a second."""

    def __init__(self, steps: int, start: int = 0, show: bool = True):
        self.steps, self.shown, self.bar, self.display = steps, -1.0, None, None
        if not show:
            return
        if _in_notebook():
            from IPython.display import display

            self.display = display(self._text(start, ""), raw=True, display_id=True)
        elif sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)

    def _text(self, step: int, text: str) -> dict[str, str]:
        return {"text/plain": f"step {step}/{self.steps}{' · ' * bool(text)}{text}"}

    def update(self, step: int, text, last: bool = False) -> None:
        """``text`` is a function, called only if its result is shown."""
        if self.bar is None and self.display is None:
            return
        now = time.perf_counter()
        if now - self.shown < 0.25 and not last:
            return
        self.shown = now
        if self.display is not None:
            self.display.update(self._text(step, text()), raw=True)
        else:
            self.bar.set_postfix_str(text(), refresh=False)
            self.bar.update(step - self.bar.n)
            if last:
                self.bar.refresh()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
