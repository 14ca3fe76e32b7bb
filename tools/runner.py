"""Runs notebooks side by side, each in a process of its own, and reports what fails."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from chapters import Chapter, code_of, merge, read_notebook, with_solutions, write_notebook
from environment import home_environment
from freshness import size_of, versions_of

BUDGET = 90  # seconds a chapter may take; it is stopped only after BUDGET times the limit scale
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
RUN_NOTEBOOK = Path(__file__).with_name("run_notebook.py")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Run:
    """An execution under way."""

    chapter: Chapter
    copy: Path
    process: subprocess.Popen
    log: Path
    began: float
    peak_mb: float = 0.0


class Runner:
    """Runs chapters side by side, longest first; those that measure time last, alone, with every core."""

    def __init__(self, root: Path, folder: Path, store: Path, jobs: int, limit_scale: float):
        self.root, self.folder, self.store, self.jobs, self.limit_scale = root, folder, store, jobs, limit_scale
        self.running: list[Run] = []
        self.failures: dict[Chapter, str] = {}

    def run_all(self, stale: list[Chapter]) -> dict[Chapter, str]:
        """Run all, storing each as soon as it is done; return what failed, with its report."""
        known = [chapter.run.get("seconds", BUDGET) for chapter in stale]
        order = [chapter for _, chapter in sorted(zip(known, stale, strict=True), key=lambda pair: -pair[0])]
        together = [chapter for chapter in order if not chapter.settings.get("exclusive")]
        alone = [chapter for chapter in order if chapter.settings.get("exclusive")]
        self.left, self.total = [*together, *alone], len(order)
        if order:
            print(f"Executing {len(order)} chapters, {self.jobs} at once …", flush=True)
        try:
            self.work_off(together, jobs=self.jobs, threads=1)
            self.work_off(alone, jobs=1, threads=os.cpu_count() or 1)
        finally:
            for run in self.running:
                kill_tree(run.process)
        return self.failures

    def work_off(self, waiting: list[Chapter], jobs: int, threads: int) -> None:
        said = time.monotonic()
        waiting = list(waiting)
        while waiting or self.running:
            while waiting and len(self.running) < jobs:
                self.running.append(self.start(waiting.pop(0), threads))
            time.sleep(0.1)
            for run in list(self.running):
                run.peak_mb = max(run.peak_mb, memory_mb(run.process.pid))
                limit = min(BUDGET, run.chapter.settings.get("limit", BUDGET)) * self.limit_scale
                late = time.monotonic() - run.began > limit
                if late:
                    kill_tree(run.process)
                if late or run.process.poll() is not None:
                    self.running.remove(run)
                    self.finish(run, f"stopped after its limit of {limit:.0f} s" if late else None)
            if time.monotonic() - said > (1 if sys.stdout.isatty() else 30) and self.running:
                said = time.monotonic()
                self.say_status()

    def start(self, chapter: Chapter, threads: int) -> Run:
        copy, log = self.folder / chapter.path, self.folder / f"{chapter.path}.log"
        write_notebook(copy, with_solutions(chapter.source))
        (self.folder / "pytest.ini").write_text("[pytest]\n")  # not the settings and plugins of the tests
        limit = min(BUDGET, chapter.settings.get("limit", BUDGET)) * self.limit_scale
        command = [sys.executable, RUN_NOTEBOOK, copy, "-q", "-p", "nbmake.pytest_plugin", "-p", "no:cacheprovider"]
        command += ["--nbmake", "--overwrite", f"--nbmake-timeout={max(1, int(0.9 * limit))}"]
        command += [f"--rootdir={self.folder}", "-c", self.folder / "pytest.ini"]
        env = home_environment(self.root) | {name: str(threads) for name in THREADS}
        env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "JUPYTER_PREFER_ENV_PATH": "1", "PYTEST_ADDOPTS": ""}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.root), env.get("PYTHONPATH")]))
        with open(log, "w", encoding="utf8") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        return Run(chapter, copy, process, log, time.monotonic())

    def finish(self, run: Run, stopped: str | None) -> None:
        """Store the outputs, or report the failure; say how far the whole is."""
        chapter, seconds = run.chapter, time.monotonic() - run.began
        self.left.remove(chapter)
        number = f"[{self.total - len(self.left)}/{self.total}]"
        if stopped or run.process.returncode:
            self.failures[chapter] = report(run, stopped)
            self.say(f"{number} FAILED {self.failures[chapter]}")
            return
        record = {
            "seconds": round(seconds, 1),
            "peak_mb": round(run.peak_mb),
            "size": size_of(),
            "versions": versions_of(self.root, code_of(chapter.source)),
            "key": chapter.key,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        chapter.executed = merge(chapter.source, read_notebook(run.copy), record)
        write_notebook(self.store / chapter.path, chapter.executed)
        over = f", over its budget of {BUDGET} s" if seconds > BUDGET else ""
        self.say(f"{number} {chapter.path}: {seconds:.0f} s, {run.peak_mb:.0f} MB{over}; {self.left_over()}")

    def left_over(self) -> str:
        seconds = sum(chapter.run.get("seconds", BUDGET / 2) for chapter in self.left) / self.jobs
        return f"{len(self.left)} left, about {seconds / 60:.1f} min" if self.left else "none left"

    def say_status(self) -> None:
        now = time.monotonic()
        names = ", ".join(f"{run.chapter.path} {now - run.began:.0f} s" for run in self.running)
        line = f"running: {names}; {self.left_over()}"
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        else:
            print(line, flush=True)

    def say(self, text: str) -> None:
        print("\r\x1b[K" * sys.stdout.isatty() + text, flush=True)


def report(run: Run, stopped: str | None) -> str:
    """Chapter, cell and error in a few lines."""
    cells = read_notebook(run.copy).cells
    failed = [(cell, output) for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"]
    if failed:
        cell, output = failed[-1]
        what = failing_lines(output, cell.source) + f"{output.ename}: {output.evalue}".splitlines()[:4]
    else:  # the time was up, or the kernel died, or what runs it failed
        note = run.copy.with_suffix(".cell")
        cell = cells[int(note.read_text())] if note.exists() else None
        said = [line for line in ANSI.sub("", run.log.read_text(errors="replace")).splitlines() if line.strip("-= ")]
        timeout = "stopped, because the cell took too long" if any("timed out" in line for line in said) else None
        died = "the kernel died" if any("DeadKernelError" in line for line in said) else None
        what = [stopped or timeout or died] if stopped or timeout or died else said[-6:]
    where = run.chapter.path
    if cell:
        first = next((line for line in cell.source.splitlines() if line.strip()), "")
        is_solution = "solution" in cell.metadata.get("tags", [])
        which = "the folded solution that" if is_solution else f"cell {cells.index(cell) + 1}, which"
        where += f", {which} begins {first!r}"
    return "\n".join([where, *("    " + line[:200] for line in what)])


def failing_lines(output: dict, source: str) -> list[str]:
    """The line of the cell at which the error came out."""
    numbers = re.findall(
        r"Cell In\[\d+\], line (\d+)|^-+> (\d+) ", ANSI.sub("", "\n".join(output["traceback"])), re.MULTILINE
    )
    if not numbers:
        return []
    number = int(numbers[0][0] or numbers[0][1])
    lines = source.splitlines()
    return [f"line {number}: {lines[number - 1].strip()[:200]}"] if number <= len(lines) else []


def memory_mb(pid: int) -> float:
    """Resident memory of the process and its descendants, in MB."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:
        pass  # it ended while we looked
    return total / 1e6


def kill_tree(process: subprocess.Popen) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        family = []
    for member in (process, *family):
        try:
            member.kill()
        except psutil.Error:
            pass
    process.wait()


def die_with_parent() -> None:
    """Linux: a killed executor leaves nothing running (a kernel follows its nbmake by itself)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
