"""Rules for every test: with ``CI=true`` a skipped test is a failure; tests marked ``gpu`` need one to be chosen."""

import os

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU; left out where there is none")


def pytest_collection_modifyitems(config, items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]


def fail_if_skipped(report):
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure here: {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return fail_if_skipped((yield))
