"""A playground in a real browser: it answers, quickly, from its weights, for every reader and in every frame."""

import functools
import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch
from one_playground import FRAMES, page_of, png_bytes
from torch import nn

from helpers import playground
from helpers.playground import display

LATENTS = 3
ALT = "Encoded digits in the plane"


@functools.cache
def decoder():
    """About 220,000 parameters, random."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(LATENTS, 256), nn.GELU(), nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 64))
    for weight in (p for p in body.parameters() if p.ndim == 2):
        nn.init.xavier_normal_(weight, gain=2)
    return nn.Sequential(body, nn.Sigmoid(), nn.Unflatten(1, (8, 8)))


@functools.cache
def bundle():
    model = decoder()

    def decode(z):
        return 16 * model(z)

    graph = playground.export(decode, torch.zeros(1, LATENTS), names=["z"])
    params = {
        "levels": 17,
        "points": [[0.5, -1.0, 0.2], [1.0, 1.5, -0.4], [-2.0, 0.3, 0.0]],
        "labels": [7, 2, 5],
        "names": list("0123456789"),
        "sliders": [2],
    }
    return display.make_bundle("latent_plane", {"decode": graph}, params, None, png_bytes(), ALT)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A small book: the page lies one folder below, the playground's files in _static/playgrounds."""
    root = tmp_path_factory.mktemp("a book ü")
    files = root / "_static" / "playgrounds"
    files.mkdir(parents=True)
    for name, text in playground.book_files(bundle()).items():
        (files / name).write_text(text, encoding="utf-8")
    (root / "code").mkdir()
    html = playground.book_html(bundle(), "../_static/playgrounds")
    (root / "code" / "page.html").write_text(page_of(html), encoding="utf-8")
    (root / "code" / "far.html").write_text(page_of(f'<div style="height: 5000px"></div>{html}'), encoding="utf-8")
    (root / "code" / "twice.html").write_text(page_of(html + html), encoding="utf-8")
    alone = display.standalone_html(bundle())
    (root / "code" / "alone.html").write_text(page_of(alone, "dark"), encoding="utf-8")
    frame = page_of(alone).replace("&", "&amp;").replace('"', "&quot;")
    frame = f'<iframe sandbox="allow-scripts" width="700" height="700" srcdoc="{frame}"></iframe>'
    (root / "code" / "frame.html").write_text(page_of(frame), encoding="utf-8")
    return root


PIXELS = """() => {
  const canvas = document.querySelector("canvas[role=img]");
  return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
}"""


def expected(z):
    """The image's pixels in the light theme, by torch."""
    with torch.no_grad():
        value = decoder()(torch.tensor([z]))[0].flatten()
    return (255 + (20 - 255) * value).tolist()


def greys(page):
    return page.evaluate(PIXELS)[::4]


def same(a, b, tolerance=2):
    """Within rounding to a byte and float16's 1e-3."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= tolerance


def drag(page, to, frame=None):
    """Presses in the middle of the plane and drags to a place given in shares of its width and height."""
    box = (frame or page).locator(".plane canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + to[0] * box["width"], box["y"] + to[1] * box["height"], steps=4)
    page.mouse.up()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_drag_shows_what_torch_decodes(open_page, address, scheme):
    page = open_page(f"{address[scheme]}/code/page.html")
    before = greys(page)
    assert same(before, expected([0.5, -1.0, 0.2]))  # the first point: something is there at once
    drag(page, (0.75, 0.25))
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('z₁ = 1.5')")
    after, z = greys(page), page.evaluate("() => document.querySelector('.plane input').value")
    assert float(z) == pytest.approx(1.5, abs=0.05)
    assert same(after, expected([1.5, 1.5, 0.2]), tolerance=12)  # the pointer stands on whole pixels
    assert not same(before, expected([1.5, 1.5, 0.2]), tolerance=12)  # which the first image would not pass


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_nothing_is_precomputed(open_page, address, scheme):
    """One weight changed in the page changes the one pixel that it feeds, and no other."""
    page = open_page(f"{address[scheme]}/code/page.html")
    before = greys(page)
    page.evaluate(
        """() => {
          const { decode, move } = document.querySelector(".book-playground").playground;
          const bias = Object.values(decode.weights).find(({ shape }) => shape.length === 1 && shape[0] === 64);
          bias.data[42] += bias.data[42] > 0 ? -50 : 50;
          move({});
        }"""
    )
    page.evaluate(FRAMES)
    changed = [i for i, (a, b) in enumerate(zip(before, greys(page), strict=True)) if a != b]
    assert changed == [42]


def first_answer(page):
    """Milliseconds from the first touch, when nothing but mount.js is there, to the first picture."""
    assert page.evaluate("() => performance.getEntriesByType('resource').length") == 1
    return page.evaluate(
        """() => new Promise((done) => {
          const start = performance.now();
          const el = document.querySelector(".book-playground");
          el.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
          const wait = () => (el.playground ? done(performance.now() - start) : requestAnimationFrame(wait));
          wait();
        })"""
    )


def test_first_answer_within_a_second_then_thirty_a_second(open_page, address):
    milliseconds = 1e9
    for _ in range(5):  # the best of five: other work on the machine is not the page's
        page = open_page(f"{address['http']}/code/far.html", ready=False)
        if (milliseconds := min(milliseconds, first_answer(page))) < 1000:
            break
    each = page.evaluate(
        """() => {
          const { decode } = document.querySelector(".book-playground").playground;
          const z = { shape: [1, 3], data: new Float32Array([0.1, 0.2, 0.3]) };
          const times = [];
          for (let i = 0; i < 60; i++) {
            const start = performance.now();
            decode.run({ z });
            times.push(performance.now() - start);
          }
          return times.sort((a, b) => a - b)[30];
        }"""
    )
    print(f"first answer {milliseconds:.0f} ms, then {each:.2f} ms each")
    assert milliseconds < 1000
    assert each < 1000 / 30


def test_keyboard_and_screen_reader(open_page, address):
    page = open_page(f"{address['http']}/code/page.html")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Latent z1, left and right"
    assert page.evaluate("() => getComputedStyle(document.querySelector('.plane')).outlineStyle") == "solid"
    for key in ["ArrowRight", "ArrowRight", "Shift+ArrowUp"]:
        page.keyboard.press(key)
    page.wait_for_function(
        "() => document.querySelector('[role=status]').textContent.includes('z₁ = 0.7 sd, z₂ = −0.5 sd')"
    )
    said = page.inner_text("[role=status][aria-live=polite]")
    mean = 16 * (1 - (sum(expected([0.7, -0.5, 0.2])) / 64 - 20) / 235)
    assert re.fullmatch(r"z₁ = 0.7 sd, z₂ = −0.5 sd; nearest training examples: 7; mean level [\d.]+ of 16\.", said)
    assert float(re.search(r"level ([\d.]+)", said)[1]) == pytest.approx(mean, abs=0.06)
    values = page.eval_on_selector_all("input[type=range]", "els => els.map((e) => e.getAttribute('aria-valuetext'))")
    assert values == [f"{v} standard deviations of the prior" for v in ("0.7", "−0.5", "0.2")]
    assert page.get_by_role("img").get_attribute("aria-label").startswith("Decoded image: z₁ = 0.7 sd")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")  # the slider of the third latent
    page.evaluate(FRAMES)
    assert same(greys(page), expected([0.7, -0.5, 0.1]))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # reset
    page.evaluate(FRAMES)
    assert same(greys(page), expected([0.5, -1.0, 0.2]))


def test_touch(open_page, address):
    page = open_page(
        f"{address['http']}/code/page.html", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    box = page.locator(".plane canvas").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('z₁ = −1.5 sd, z₂ = 1.5 sd')")
    assert page.evaluate("() => getComputedStyle(document.querySelector('.plane canvas')).touchAction") == "none"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    small = page.eval_on_selector_all("button, label input", "els => els.filter((e) => e.offsetHeight < 24).length")
    assert small == 0


def test_works_off_screen_only_when_it_comes_into_view(open_page, address):
    page = open_page(f"{address['http']}/code/far.html", ready=False)
    assert page.locator(".playground").count() == 0
    page.evaluate("() => scrollTo(0, 5000)")
    page.wait_for_selector(".readout:not(:empty)")
    assert page.locator(".book-playground > img").count() == 0  # the still made room
    page.evaluate("() => scrollTo(0, 0)")
    page.wait_for_timeout(300)
    before = page.evaluate(PIXELS)
    page.evaluate("() => document.querySelector('.book-playground').playground.move({ 0: 2 })")
    page.wait_for_timeout(300)
    assert page.evaluate(PIXELS) == before  # off the screen it rests
    page.evaluate("() => scrollTo(0, 5000)")
    page.wait_for_function(f"(before) => ({PIXELS})().some((x, i) => x !== before[i])", arg=before)


def test_without_scripts_the_still_is_there(open_page, address):
    page = open_page(f"{address['file']}/code/page.html", ready=False, java_script_enabled=False)
    still = page.get_by_role("img", name=ALT)
    assert still.is_visible()
    assert page.locator("canvas").count() == 0


def test_two_on_a_page_are_independent(open_page, address):
    page = open_page(f"{address['file']}/code/twice.html")
    page.wait_for_function("() => document.querySelectorAll('.readout:not(:empty)').length === 2")
    page.evaluate("() => document.querySelector('.book-playground').playground.move({ 0: 2 })")
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('z₁ = 2.0')")
    assert "z₁ = 0.5" in page.locator(".readout").nth(1).inner_text()


def test_in_a_notebooks_output(open_page, address):
    page = open_page(f"{address['http']}/code/alone.html")
    assert page.get_attribute(".playground", "data-theme") == "dark"
    first = page.evaluate("() => getComputedStyle(document.querySelector('.playground')).color")
    page.evaluate("() => (document.documentElement.dataset.theme = 'light')")
    page.evaluate(FRAMES)
    assert page.evaluate("() => getComputedStyle(document.querySelector('.playground')).color") != first


def test_in_a_sandboxed_frame_as_colabs(open_page, address):
    page = open_page(f"{address['http']}/code/frame.html", ready=False)
    frame = page.frame_locator("iframe")
    frame.locator(".readout:not(:empty)").wait_for()
    drag(page, (0.25, 0.75), frame)
    frame.locator(".readout", has_text="z₁ = −1.5 sd, z₂ = −1.5 sd").wait_for()


class TestPython:
    def test_the_output_has_the_three_forms(self, monkeypatch):
        shown = []
        monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
        playground.show(
            "latent_plane", graphs=bundle()["graphs"], params=bundle()["params"], still=png_bytes(), alt=ALT
        )
        assert set(shown[0]) == {"text/html", "text/plain", playground.MIME}
        assert shown[0][playground.MIME] == bundle()
        assert shown[0]["text/plain"] == ALT
        assert "import " not in re.sub(r"//.*", "", shown[0]["text/html"])  # a classic script imports nothing

    def test_text_cannot_leave_the_script(self):
        hostile = bundle() | {"params": {"names": ["</script><b>", "<!--"]}, "alt": '"><script>'}
        text = display.standalone_html(hostile)
        assert text.count("</script>") == 1 and "<!--" not in text and '"><script>' not in text
        assert json.loads(display.script_json(hostile["params"]).replace("\\!", "!")) == hostile["params"]

    def test_the_light_page_is_light(self):
        assert len(playground.book_html(bundle(), "x")) < 2000 + len(bundle()["still"])

    def test_equal_bundles_share_files_and_a_change_renames_them(self):
        names = set(playground.book_files(bundle()))
        other = bundle() | {"params": bundle()["params"] | {"levels": 16}}
        assert len(names) == 3 and len(names & set(playground.book_files(other))) == 2

    def test_the_state_begins_at_zero_or_as_told(self):
        graphs = bundle()["graphs"]
        assert display.first_state(graphs, None) == {"z": [0.0, 0.0, 0.0]}
        assert display.first_state(graphs, {"z": [1.0, 0, 0], "t": 2}) == {"z": [1.0, 0, 0], "t": 2}

    def test_the_live_widget_has_the_state_as_traits(self):
        widget = playground.live("latent_plane", graphs=bundle()["graphs"], params=bundle()["params"])
        seen = []
        widget.observe(lambda change: seen.append(change.new), "z")
        widget.z = [1.0, 2.0, 0.0]
        assert seen == [[1.0, 2.0, 0.0]] and "export default { render }" in widget._esm

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"module": "nothing"}, "latent_plane"),
            ({"alt": " "}, "alt"),
            ({"still": "picture.png"}, "figure or the bytes of a PNG"),
            ({"still": b"GIF89a"}, "figure or the bytes of a PNG"),
        ],
    )
    def test_bad_input(self, change, message):
        good = {"module": "latent_plane", "graphs": {}, "params": {}, "still": png_bytes(), "alt": ALT}
        call = good | change
        with pytest.raises(ValueError, match=message):
            playground.show(call.pop("module"), **call)


def test_no_class_of_a_playground_is_one_that_the_theme_styles():
    """Bootstrap's ``.row > * { width: 100% }`` once made all bars of a playground equally long, in the book only."""
    styled = set()
    for theme in ("pydata_sphinx_theme", "sphinx_book_theme"):
        for sheet in Path(importlib.util.find_spec(theme).origin).parent.rglob("*.css"):
            styled |= set(re.findall(r"(?:^|[},;])\s*\.([\w-]+)\s*(?=>|\{|,)", sheet.read_text(encoding="utf8")))
    used = set()
    for module in Path(display.__file__).parent.glob("*.js"):
        for names in re.findall(r'class: "([\w -]+)"', module.read_text(encoding="utf8")):
            used |= set(names.split())
    assert "row" in styled and {"bar", "sliders"} <= used  # both are found
    assert used & styled == set()
