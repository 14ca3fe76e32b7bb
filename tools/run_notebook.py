"""Pytest with nbmake, as runner.py starts it: ``python tools/run_notebook.py NOTEBOOK [pytest's arguments]``.

It notes beside the notebook which cell begins: when the kernel dies or the time is up, that tells where.
"""

import sys
from pathlib import Path

sys.modules["rfc3987_syntax"] = None  # as in chapters.py

import pytest  # noqa: E402
from nbclient import NotebookClient  # noqa: E402

notebook = Path(sys.argv[1])
execute_cell = NotebookClient.async_execute_cell


async def noting(self, cell, cell_index, **options):
    notebook.with_suffix(".cell").write_text(str(cell_index))
    return await execute_cell(self, cell, cell_index, **options)


NotebookClient.async_execute_cell = noting
sys.exit(pytest.main(sys.argv[1:]))
