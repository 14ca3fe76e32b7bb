"""Every test, one step after the other; the last line says what passed."""

from __future__ import annotations

import subprocess
import sys
import time

from environment import ROOT, home_environment

PYTEST = ["-m", "pytest", "-q", "--durations=5"]
STEPS = {
    "style": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
    "chapters": ["tools/execute.py"],
    "prose": ["tools/sync.py", "--check"],
    "chapters at GPU size": ["tools/execute.py", "--build", "_build/gpu"],
    "book": ["tools/build.py"],
    "units": [*PYTEST, "-n", "2", "tests", "--ignore=tests/pages"],
    "pages": [*PYTEST, "tests/pages"],
}
EXTRA = {
    "chapters at GPU size": {"SIZE": "gpu", "MAX_STEPS": "2"},
    "units": {"OMP_NUM_THREADS": "1"},  # two side by side
}


def main() -> int:
    begin = time.monotonic()
    failed = []
    for number, (name, arguments) in enumerate(STEPS.items(), 1):
        if name == "pages" and "book" in failed:
            failed.append("pages (not run: there is no book)")
            continue
        print(f"== {number}/{len(STEPS)} {name}", flush=True)
        start = time.monotonic()
        env = home_environment(ROOT) | EXTRA.get(name, {})
        if subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode:
            failed.append(name)
        print(f"== {name}: {'FAILED' if name in failed else 'passed'}, {time.monotonic() - start:.0f} s", flush=True)
    verdict = f"FAILED: {', '.join(failed)}" if failed else f"Everything passed: {', '.join(STEPS)}"
    print(f"{verdict}; {time.monotonic() - begin:.0f} s.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
