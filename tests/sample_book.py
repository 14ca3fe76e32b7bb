"""A small book with one notebook that uses every feature of the book's pages; its outputs are made without a kernel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parent.parent

INTRODUCTION = r"""# Variational autoencoders

The evidence of a picture is an integral that nobody can do, so one bounds it from below. The bound is the
[ELBO](../glossary.md#elbo), found by [Kingma & Welling 2014](../references.md#kingma2014) and, in the same months, by
[Rezende et al. 2014](../references.md#rezende2014). This page exercises everything that a chapter may use.

> **Predict first.** Which term of the bound falls first when the decoder is strong? Decide before you read on; the
> answer comes [below](#the-bound).

## The bound

For each picture $x$ and every distribution $q(z \mid x)$,

$$
\log p(x) \ge \mathbb{E}_{q(z \mid x)}\big[\log p(x \mid z)\big] - \mathrm{KL}\big(q(z \mid x) \,\|\, p(z)\big)
\tag{2.1}
$$

and the gap is a divergence, which [the library](../reference.md#helpers.models.base.GenerativeModel) computes:

$$
\log p(x) - \mathcal{L}(x) = \mathrm{KL}\big(q(z \mid x) \,\|\, p(z \mid x)\big) \\
\ge 0 \tag{2.2}
$$

By [(2.1)](#equation-2.1) the bound is at most the evidence; see also [definition 2.1](#definition-2.1).

> **Definition 2.1.** The *evidence lower bound* of $q$ at $x$ is the right side of (2.1).

> **Theorem 2.1 (tightness).** The bound meets the evidence exactly where $q(z \mid x) = p(z \mid x)$.
>
> $$ \mathcal{L}(x) = \log p(x) \iff q(z \mid x) = p(z \mid x) $$

> **Proof.** A divergence is zero only between equal distributions. ∎

> **Key idea.** Learning and inference climb the same bound.

> **Pitfall.** With `reduction="mean"` the two terms are no longer in the same unit.

> An ordinary quotation stays one.

A second paragraph of ordinary prose shows the measure of the column. A line of about seventy characters is read
without losing the way back to its beginning; a longer one is not, and a shorter one breaks the phrases of which
mathematics is made. The loss at the start of the run was 141.2<!--=start:.1f±1.5--> nats.

| model | validation, nats | seconds |
|---|---|---|
| mixture of categoricals | 102.3 | 0.4 |
| variational autoencoder | 89.1 | 58 |
"""

EXERCISES = r"""## Exercises

> **Exercise 1 (easy).** Show that the divergence of two normal distributions with unit variance is half the squared
> distance of their means. ([Exercise 2](#exercise-2) builds on it.)

<details><summary>Hint</summary>

Write the logarithm of the ratio, and take its mean.

</details>
<details><summary>Solution</summary>

$\log q - \log p = -\tfrac12 (z - \mu)^2 + \tfrac12 z^2$, whose mean under $q$ is $\tfrac12 \mu^2$.

```python
def divergence(mean):
    return 0.5 * mean**2
```

</details>

> **Exercise 2 (medium).** What changes when the variances differ?

> **Quiz 1.** Where is the bound tight?

<details><summary>A. Where $q(z \mid x) = p(z)$</summary>

Wrong: then only the second term is zero.

</details>
<details><summary>B. Where $q(z \mid x) = p(z \mid x)$</summary>

Right: the gap is the divergence between these two.

</details>
"""

CODE = '''import matplotlib.pyplot as plt
import torch

from helpers import notebook

notebook.setup(seed=0)


def log_normal(z, mean, log_variance):  # a line that is long enough to need scrolling inside its own box on a telephone
    """The log-density of a normal distribution, summed over the last dimension, in nats."""
    return -0.5 * ((z - mean) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(-1)'''


def make(folder: Path, extra: str = "") -> Path:
    """Write the sample book into ``folder``; ``extra`` is added to the notebook's introduction."""
    for name in ("book", "tools", "helpers"):
        ignore = shutil.ignore_patterns("__pycache__", "*.ipynb", "*.npz")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"] = {"execute_notebooks": "off"}
    (folder / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    matter = [{"file": f"book/{path.stem}"} for path in sorted((folder / "book").glob("*.md")) if path.stem != "index"]
    parts = [
        {"caption": "Code", "chapters": [{"file": "book/code/02_vae"}]},
        {"caption": "Back matter", "chapters": matter},
    ]
    (folder / "_toc.yml").write_text(
        yaml.safe_dump({"format": "jb-book", "root": "book/index", "parts": parts}), encoding="utf-8"
    )
    (folder / "book" / "index.md").write_text("# A sample book\n\n[The chapter](code/02_vae.ipynb).\n")
    (folder / "book" / "data.md").unlink(missing_ok=True)
    for path in (folder / "book").glob("*.md"):  # the sample has one chapter: all links to chapters lead there
        text = re.sub(r"\]\([\w/]+\.ipynb(#[\w.-]+)?\)", "](code/02_vae.ipynb)", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    (folder / "book" / "code").mkdir(exist_ok=True)
    nbformat.write(chapter(extra), folder / "book" / "code" / "02_vae.ipynb")
    (folder / "_build").mkdir()
    record = {"seconds": 12.3, "peak_mb": 900, "size": "laptop", "when": "2026-11-23T05:00:00+00:00"}
    record["versions"] = {"python": "3.11.7", "torch": "2.13.0"}
    (folder / "_build" / "execution.json").write_text(json.dumps({"book/code/02_vae.ipynb": record}))
    return folder


def build(folder: Path) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).parent / "jupyter-book", "build", str(folder), "-W", "-n", "--keep-going"]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def chapter(extra: str) -> nbformat.NotebookNode:
    widget = new_output(
        "display_data",
        {"application/vnd.jupyter.widget-view+json": {"model_id": "a1"}, "text/plain": "IntSlider(value=3)"},
    )
    cells = [
        new_markdown_cell(INTRODUCTION + extra),
        new_code_cell(CODE, execution_count=1),
        new_code_cell("notebook.show(axes, alt='Two clouds of points')", execution_count=2, outputs=figures()),
        new_code_cell(
            "notebook.record(elbo=-93.7)",
            outputs=[new_output("display_data", {"application/vnd.book.values+json": {"elbo": -93.7}})],
        ),
        new_code_cell("slider", outputs=[widget]),
        new_code_cell(
            "print('a line of text')",
            outputs=[new_output("stream", name="stdout", text="a line of text\n" + "x" * 150 + "\n")],
        ),
        new_markdown_cell(EXERCISES),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    state = {"a1": {"model_name": "IntSliderModel", "model_module": "@jupyter-widgets/controls", "state": {}}}
    metadata["widgets"] = {
        "application/vnd.jupyter.widget-state+json": {"state": state, "version_major": 2, "version_minor": 0}
    }
    return new_notebook(cells=cells, metadata=metadata)


def figures() -> list:
    """What ``notebook.show``, ``animate``, ``proof`` and ``source`` and a playground would display."""
    from helpers import notebook, plots

    outputs = []
    kept, notebook.output.display = (
        notebook.output.display,
        lambda data, metadata=None: outputs.append(new_output("display_data", data, metadata=metadata or {})),
    )
    try:
        import matplotlib.pyplot as plt

        generator = np.random.default_rng(0)
        figure, axes = plt.subplots(figsize=(6, 3.4))
        axes.scatter(*generator.normal(size=(2, 200)), s=8, color="#0072B2", label="data")
        axes.scatter(*generator.normal(size=(2, 200)) + 1, s=8, color="#D55E00", label="model")
        axes.set(title="The model is off by one", xlabel="$x_1$", ylabel="$x_2$")
        axes.legend(frameon=False)
        notebook.show(
            axes, alt="Two clouds of points; the model's lies up and to the right of the data's.", name="clouds"
        )
        figure, axes = plt.subplots(1, 3, figsize=(10, 3))
        for n, axis in enumerate(axes):
            axis.plot(np.sin(np.linspace(0, 6 + n, 100)), color="#009E73")
            axis.set(title=f"Panel {n + 1}", xlabel="step")
        notebook.show(figure, alt="Three panels with sine curves of growing frequency.", name="wide")
        frames = [np.full((8, 8), 30 * n, dtype=np.uint8) for n in range(4)]
        notebook.animate(frames, alt="A square that grows lighter.", name="fade")
        notebook.source(plots.__dict__.get("samples") or notebook.show)
    finally:
        notebook.output.display = kept
    return outputs
