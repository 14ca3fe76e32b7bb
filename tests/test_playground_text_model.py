"""The text model's playground in a real browser: its numbers are torch's, and it answers to keys and clicks."""

import functools
import json

import pytest
import torch
from one_playground import FRAMES, page_of, png_bytes
from torch import nn

from helpers import decoding, playground
from helpers.models.gpt import GPT, Past
from helpers.playground import display

SYMBOLS = "\n .abcdefgh"
START = "abc"
SLOTS = 24


@functools.cache
def gpt():
    torch.manual_seed(0)
    model = GPT(len(SYMBOLS), length=SLOTS, layers=2, heads=2, width=32, recent=3)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model.eval()


def step_inputs(model, codes):
    """What ``GPT.step`` takes after reading all but the last of ``codes``, cache from a ``Past``."""
    heads, size = model.config["heads"], model.config["width"] // model.config["heads"]
    keys, values = torch.full((2, len(model.blocks), heads, model.context, size), 7.0)  # what is not filled is hidden
    past = Past(model)
    if len(codes) > 1:
        model(codes[None, :-1], past)
        for i, cache in enumerate(past.layers):
            keys[i, :, : cache.used], values[i, :, : cache.used] = (
                cache.keys[0, :, : cache.used],
                cache.values[0, :, : cache.used],
            )
    window = torch.cat([torch.full((model.recent,), model.begin), codes])[-model.recent :]
    return window, torch.tensor([float(len(codes) - 1)]), keys, values


@torch.no_grad()
@pytest.mark.parametrize("style", [{}, dict(positions="learned", norm="layer", activation="gelu", bias=True)])
def test_a_step_is_the_forward_pass(style):
    torch.manual_seed(1)
    model = GPT(5, length=12, layers=2, heads=2, width=16, **style)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    codes = torch.cat([torch.tensor([model.begin]), torch.randint(5, (11,))])
    truth = model(codes[None])[0]
    for n in (1, 2, 7, 12):
        window, at, keys, values = step_inputs(model, codes[:n])
        logits, key, value = model.step(window, at, keys, values)
        torch.testing.assert_close(logits, truth[n - 1], rtol=1e-4, atol=1e-5)
        past = Past(model)
        model(codes[None, :n], past)
        torch.testing.assert_close(key, torch.stack([c.keys[0, :, n - 1 : n] for c in past.layers]))
        torch.testing.assert_close(value, torch.stack([c.values[0, :, n - 1 : n] for c in past.layers]))
        if n > 1:  # mutant: positions shifted by one
            assert not torch.allclose(model.step(window, at - 1, keys, values)[0], truth[n - 1], atol=1e-2)


@functools.cache
def bundle():
    model = gpt()
    inputs = step_inputs(model, torch.tensor([model.begin]))
    names = ["window", "at", "keys", "values"]
    graph = playground.export(model.step, *inputs, names=names, dtype="float32", batch=False)
    params = {"symbols": list(SYMBOLS), "begin": model.begin}
    return display.make_bundle("text_model", {"step": graph}, params, {"prompt": START}, png_bytes(), "Next characters")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("text model")
    (root / "page.html").write_text(page_of(display.standalone_html(bundle())), encoding="utf-8")
    return root


@pytest.fixture
def page(open_page, address):
    return open_page(f"{address['http']}/page.html")


LIVE = "document.querySelector('[id^=playground]').playground"


def logits_of(text):
    codes = torch.tensor([SYMBOLS.index(c) for c in text], dtype=torch.int64)
    with torch.no_grad():
        return gpt()(torch.cat([torch.tensor([gpt().begin]), codes])[None])[0, -1]


def probabilities(page, **settings):
    page.evaluate(f"(s) => {LIVE}.change(s)", settings)
    return torch.tensor(page.evaluate(f"() => {LIVE}.probabilities()"))


def same(a, b):
    return (a - b).abs().max() < 1e-5


def test_the_distribution_is_torchs(page):
    for text in ("", "a", "abc. de\nfgh", "hgfedcba" * 2):
        page.evaluate(f"(t) => {LIVE}.put(t)", text)
        assert same(probabilities(page), logits_of(text).softmax(-1))
    for settings in (
        dict(temperature=0.5),
        dict(temperature=1.5, k=4),
        dict(p=0.6),
        dict(temperature=0.8, k=6, p=0.7),
        dict(temperature=0),
    ):
        chosen = dict(temperature=1, k=len(SYMBOLS), p=1) | settings
        truth = decoding.adjust(logits_of(text), float(chosen["temperature"]), chosen["k"], float(chosen["p"])).exp()
        assert same(probabilities(page, **chosen), truth)
    # mutant: positions shifted by one
    page.evaluate(
        f"""() => {{
          const {{ reader, put }} = {LIVE};
          const run = reader.graph.run.bind(reader.graph);
          const back = (at) => ({{ shape: [1], data: Float32Array.of(Math.max(0, at.data[0] - 1)) }});
          reader.graph.run = (x) => run({{ ...x, at: back(x.at) }});
          reader.restart([]);
          put("");
          put({json.dumps(text)});
        }}"""
    )
    mutant = probabilities(page, temperature=1, k=len(SYMBOLS), p=1)
    assert not (mutant - logits_of(text).softmax(-1)).abs().max() < 1e-3


def test_a_full_context_starts_anew_as_sample_does(page):
    """Greedy text, twice as long as the context, is that of ``GPT.sample``."""
    prefix = torch.tensor([SYMBOLS.index(c) for c in START])
    truth = gpt().sample(1, length=2 * SLOTS, prefix=prefix, temperature=0.0)[0]
    written = page.evaluate(f"""() => {{
      {LIVE}.change({{ temperature: 0 }});
      for (let i = 0; i < {2 * SLOTS - len(START)}; i++) {LIVE}.step();
      return {LIVE}.text();
    }}""")
    assert written == "".join(SYMBOLS[i] for i in truth)


def test_draws_follow_the_distribution(page):
    """2,000 draws after the same text: no symbol is further off than four standard errors."""
    drawn = page.evaluate(f"""() => Array.from({{ length: 2000 }}, () => {{
      {LIVE}.put("{START}");
      {LIVE}.step();
      return {LIVE}.text().slice(-1);
    }})""")
    p = logits_of(START).softmax(-1)
    share = torch.bincount(torch.tensor([SYMBOLS.index(c) for c in drawn]), minlength=len(SYMBOLS)) / len(drawn)

    def worst(p):
        return ((share - p).abs() / (p * (1 - p) / len(drawn)).sqrt()).max()

    assert worst(p) < 4
    assert worst((logits_of(START) / 1.5).softmax(-1)) > 4  # mutant: another temperature


def test_keyboard_and_clicks(page):
    order = logits_of(START).argsort(descending=True).tolist()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Text so far, your prompt"
    page.keyboard.press("End")
    page.keyboard.type("d!")
    assert page.evaluate(f"() => {LIVE}.text()") == "abcd"
    page.wait_for_function("() => document.querySelector('[role=status]').textContent.includes('does not know !')")
    page.get_by_role("button", name="Reset").click()
    page.locator(".plane input").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.evaluate(FRAMES)
    said = page.locator(".plane input").get_attribute("aria-valuetext")
    assert said.endswith(" percent") and float(said.split()[-2]) == pytest.approx(
        100 * float(logits_of(START).softmax(-1)[order[2]]), abs=0.06
    )
    page.keyboard.press("Enter")
    assert page.evaluate(f"() => {LIVE}.text()") == START + SYMBOLS[order[2]]
    page.get_by_role("button", name="Reset").click()
    page.evaluate(FRAMES)
    page.locator(".plane canvas").click(position={"x": 120, "y": 22 * 1 + 11})  # the second bar
    assert page.evaluate(f"() => {LIVE}.text()") == START + SYMBOLS[order[1]]
    page.get_by_role("button", name="Step").click()
    assert len(page.evaluate(f"() => {LIVE}.text()")) == len(START) + 2


def test_it_streams(page):
    page.get_by_role("button", name="Stream").click()
    page.wait_for_function(f"() => {LIVE}.text().length > 60")
    assert page.inner_text("[role=status]").startswith("Streaming")  # and not what was said of the text before
    page.get_by_role("button", name="Stop").click()
    page.wait_for_function("() => /characters a second/.test(document.querySelector('[role=status]').textContent)")
    print(page.inner_text("[role=status]"))
    length = len(page.evaluate(f"() => {LIVE}.text()"))
    assert page.input_value("textarea") == page.evaluate(f"() => {LIVE}.text()")  # to the last character drawn
    page.wait_for_timeout(100)
    assert len(page.evaluate(f"() => {LIVE}.text()")) == length
    page.get_by_role("button", name="Reset").click()
    assert page.input_value("textarea") == START
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
