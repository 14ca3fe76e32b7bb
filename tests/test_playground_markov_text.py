"""The Markov text playground: its counts against the library's, by node; its keys and its pen, in a browser."""

import functools
import json
import re

import pytest
import torch
from one_playground import FRAMES, with_module

from helpers.data.text import Vocabulary
from helpers.models.markov import MarkovChain
from helpers.playground import display

TEXT = "she sells sea shells on the sea shore; the shells she sells are sea shells, I'm sure.\n" * 3 + "then he\nhid"
VOCABULARY = Vocabulary.from_text(TEXT)
PROMPTS = ["", "s", "the she", "she sells sea sh", "on the", "xqz", "sure.\n"]
SCRIPT = """
const made = chain(TEXT);
const answers = PROMPTS.map((p) => [0, 1, 2, 3, 6].map((k) => made.after(p, k)));
const written = made.write("the s", 2, 20000, uniform(3));
console.log(JSON.stringify([answers, written]));
"""


def run(source):
    """What the module answers in node, without a page."""
    given = f"const TEXT = {json.dumps(TEXT)}; const PROMPTS = {json.dumps(PROMPTS)};"
    return with_module(source, given + SCRIPT)


@functools.cache
def fitted(order):
    x = VOCABULARY.encode(TEXT)
    return MarkovChain.from_data(x, levels=len(VOCABULARY), order=order, smoothing=0.0).fit(x)


def differences(answers):
    """Prompts and orders at which the page's shares are not those of the chain of that context."""
    wrong = []
    for prompt, row in zip(PROMPTS, answers, strict=True):
        for order, got in zip([0, 1, 2, 3, 6], row, strict=True):
            # The longest end of the prompt, of at most `order` characters, that the text has with a successor
            ends = [prompt[len(prompt) - k :] for k in range(min(order, len(prompt)), -1, -1)]
            context = next(end for end in ends if end in TEXT[:-1])
            p = fitted(len(context)).next_probs(VOCABULARY.encode(context)[None])[0]
            shares = torch.zeros_like(p)
            for symbol, n in got["next"]:
                shares[VOCABULARY.symbols.index(symbol)] = n / got["total"]
            if got["context"] != context or not torch.allclose(shares, p, atol=1e-12):
                wrong.append((prompt, order))
    return wrong


def test_the_pages_counts_are_those_of_the_library():
    source = display.joined("markov_text")
    answers, written = run(source)
    assert differences(answers) == []
    for right, mutant in {
        "history.slice(history.length - k)": "history.slice(0, k)",  # the context's beginning, not its end
        "text.slice(i - k, i)": "text.slice(i - k + 1, i + 1)",  # a context that holds what it predicts
        "?? 0) + 1": "?? 0) || 1",  # seen or not, in place of how often
    }.items():
        assert right in source
        assert differences(run(source.replace(right, mutant))[0])

    # What it writes has the chain's pairs: each within 4 standard errors
    def worst(text):
        x = VOCABULARY.encode(text)
        pairs = {"th": "e", "he": " ", "s ": "s", "se": "l", "sh": "e"}
        errors = []
        for context, symbol in pairs.items():
            p = fitted(2).next_probs(VOCABULARY.encode(context)[None])[0, VOCABULARY.symbols.index(symbol)].item()
            where = [m.end() for m in re.finditer(f"(?={context})", text)]
            n = len(where)
            share = sum(text[i + 2 : i + 3] == symbol for i in where) / n
            errors.append(abs(share - p) / max((p * (1 - p) / n) ** 0.5, 1e-9))
        return max(errors), len(x)

    error, length = worst(written)
    assert error < 4 and length == 20_005
    mutant = run(source.replace("random() * total", "random() ** 2 * total"))[1]
    assert worst(mutant)[0] > 4


@pytest.fixture(scope="module")
def page(playing):
    params = {"text": TEXT, "name": "the rhyme", "order": 2, "prompt": "she s"}
    return playing("markov_text", params, {"prompt": "she s", "order": 2}, "Bars", height=740)


def wrote(page):
    page.evaluate(FRAMES)
    return page.input_value("textarea")


def said(page, text):
    page.wait_for_function("(t) => document.querySelector('[role=status]').textContent.includes(t)", arg=text)


def test_bars_keys_and_pen(page):
    said(page, "“␣s” occurs")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.keyboard.press("Tab")
    first, second = (page.locator(".follower").nth(i).get_attribute("aria-label") for i in (0, 1))
    assert re.fullmatch(r"\w+, [\d.]+ %: append", first)
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == second
    page.keyboard.press("Enter")
    assert wrote(page) == "she s" + second[0]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"
    page.keyboard.press("ArrowRight")
    said(page, f"“␣s{second[0]}” occurs")
    assert page.get_attribute("input[type=range]", "aria-valuetext") == "3 characters of context"
    page.locator(".follower").first.click()
    assert len(wrote(page)) == 7
    page.get_by_role("button", name="Write 200").click()
    once = wrote(page)
    assert len(once) == 207 and once.startswith("she s")
    page.get_by_role("button", name="Reset").click()
    assert wrote(page) == "she s"
    page.get_by_role("button", name="Write 200").click()
    again = wrote(page)
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Write 200").click()
    assert wrote(page) == again  # the same seed
    page.fill("textarea", "xqz")
    said(page, "“qz” never occurs in the rhyme; without context")
    small = page.eval_on_selector_all("button, label input", "els => els.filter((e) => e.offsetHeight < 24).length")
    assert small == 0


def test_what_is_asked_is_counted_in_the_page(page):
    page.get_by_role("button", name="Reset").click()
    got = page.evaluate("() => document.querySelector('.book-playground').playground.after('sea', 3)")
    assert got["context"] == "sea" and got["total"] == TEXT.count("sea")
