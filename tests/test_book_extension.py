"""What the Sphinx extension makes of a notebook, checked in the pages of a small book built for the purpose."""

from __future__ import annotations

import re
import sys

import pytest
import sample_book

sys.path.insert(0, str(sample_book.ROOT / "tools"))


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = sample_book.make(tmp_path_factory.mktemp("book"))
    done = sample_book.build(folder)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder


@pytest.fixture(scope="module")
def chapter(book):
    return (book / "_build" / "html" / "book" / "code" / "02_vae.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def references(book):
    return (book / "_build" / "html" / "book" / "references.html").read_text(encoding="utf-8")


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_callouts_have_a_word_a_class_and_a_place(chapter):
    boxes = re.findall(
        r'<div class="callout callout-([\w-]+) admonition"(?: id="([^"]*)")?>\s*(<p class="[^"]*title">.*?</p>)',
        chapter,
    )
    found = [(kind, place, text(title)) for kind, place, title in boxes]
    assert found == [
        ("predict-first", "", "Predict first"),
        ("definition", "definition-2.1", "Definition 2.1"),
        ("theorem", "theorem-2.1", "Theorem 2.1 (tightness)"),
        ("proof", "", "Proof"),
        ("key-idea", "", "Key idea"),
        ("pitfall", "", "Pitfall"),
        ("exercise", "exercise-1", "Exercise 1 (easy)"),
        ("exercise", "exercise-2", "Exercise 2 (medium)"),
        ("quiz", "quiz-1", "Quiz 1"),
    ]
    assert "Definition 2.1." not in text(chapter), "the word stands twice"
    assert re.search(r"<blockquote>\s*<div><p>An ordinary quotation", chapter)


@pytest.mark.parametrize(
    ("strong", "matches"),
    [
        ("Exercise 3.", True),
        ("Key idea.", True),
        ("Proof box.", True),
        ("Exercise 2 (hard).", True),
        ("Examples abound.", False),
    ],
)
def test_only_the_agreed_words_make_a_callout(strong, matches):
    from book_extension import CALLOUT

    assert bool(CALLOUT.fullmatch(strong)) is matches


def test_links_within_the_page_and_equation_tags(chapter):
    assert 'href="#exercise-2"' in chapter and 'id="exercise-2"' in chapter
    assert 'href="#equation-2.1"' in chapter
    equation = re.search(r'<div class="math[^"]*" id="equation-2.2">(.*?)</div>', chapter, re.S)[1]
    # TeX refuses a tag inside the environments that Sphinx puts around several lines
    assert equation.index(r"\end{gathered}") < equation.index(r"\tag{2.2}")
    assert r"\begin{split}" not in equation


def test_links_into_the_back_matter(chapter, references):
    citation = re.search(
        r'<a class="link-citation[^"]*" href="\.\./references\.html#kingma2014" title="([^"]*)">(.*?)</a>', chapter
    )
    assert "Auto-Encoding Variational Bayes" in citation[1] and text(citation[2]) == "Kingma &amp; Welling 2014"
    term = re.search(r'<a class="link-term[^"]*" href="\.\./glossary\.html#elbo" title="([^"]*)">', chapter)
    assert "at most log p(x)" in term[1] and "\\" not in term[1]
    assert re.search(
        r'class="link-api[^"]*" href="\.\./reference\.html#helpers\.models\.base\.GenerativeModel"', chapter
    )
    entry = re.search(r'<li id="kingma2014">(.*?)</li>', references, re.S)[1]
    assert "https://arxiv.org/abs/1312.6114" in entry
    assert 'Used in <a class="reference internal" href="code/02_vae.html">2 Variational autoencoders</a>' in entry
    assert "Used in" not in re.search(r'<li id="tipping1999">(.*?)</li>', references, re.S)[1]


def test_every_entry_of_the_bibliography_is_listed_once(references):
    keys = re.findall(r"^@\w+\{(\w+),", (sample_book.ROOT / "book" / "references.bib").read_text(), re.M)
    assert len(keys) >= 20 and sorted(re.findall(r'<li id="(\w+\d{4}[a-z]*)">', references)) == sorted(keys)


def test_the_library_is_described_with_source_and_address(book):
    page = (book / "_build" / "html" / "book" / "reference.html").read_text(encoding="utf-8")
    at = page.index('id="helpers.models.base.GenerativeModel.sample"')
    entry = page[at : page.index("</details>", at)]
    assert "condition: Tensor | None=None" in text(entry)
    assert re.search(r'href="https://[^"]+/blob/main/helpers/models/base\.py#L\d+-L\d+"', entry)
    assert "raise" in entry and '<span class="k">def</span>' in entry
    assert 'id="helpers.training.fit"' in page, "what a package takes from its modules has the shorter name too"
    assert "helpers.models.base._" not in page, "what is private stays out"


def test_stamp_and_number(chapter):
    assert text(re.search(r'<p class="chapter-number">.*?</p>', chapter)[0]) == "Code · chapter 2"
    stamp = text(re.search(r'<p class="stamp">.*?</p>', chapter)[0])
    assert (
        stamp == "Executed on 2026-11-23, with Python 3.11.7 and PyTorch 2.13.0 (CPU), in 12 s, using 0.9 GB of memory."
    )


def test_outputs(chapter, book):
    images = re.findall(
        r'<img alt="([^"]*)" class="([^"]*)" loading="lazy" src="([^"]*)" width="(\d+)" height="(\d+)" />', chapter
    )
    classes = [kind for _, kind, *_ in images]
    assert (
        classes[:2] == ["only-light", "only-dark"] and "only-light moving" in classes and "only-dark still" in classes
    )
    assert all(len(alt) > 10 for alt, *_ in images)
    assert len({source for _, _, source, *_ in images[:2]}) == 2, "the dark rendering is another picture"
    for _, _, source, *_ in images:
        assert (book / "_build" / "html" / "book" / "code" / source).resolve().exists()
    assert "vnd.jupyter.widget" not in chapter and "IntSlider" not in chapter
    assert "-93.7" not in re.sub(r'<div class="highlight.*?</div>', "", chapter, flags=re.S), (
        "bound values show nothing"
    )


def test_mathematics_and_code_in_a_summary(chapter):
    assert (
        r'<summary>B. Where <span class="math notranslate nohighlight">\(q(z \mid x) = p(z \mid x)\)</span></summary>'
        in chapter
    )


@pytest.mark.parametrize(
    ("extra", "warning"),
    [
        ("\n\n[x](../references.md#nobody1999)\n", "nobody1999"),
        ("\n\n[x](../glossary.md#no-such-term)\n", "no-such-term"),
        ("\n\n[x](../reference.md#helpers.models.base.Nothing)\n", "helpers.models.base.Nothing"),
        ("\n\n[x](#exercise-99)\n", "exercise-99"),
        ("\n\n> **Exercise 1.** Twice.\n", "two targets #exercise-1"),
    ],
)
def test_a_link_to_nothing_is_a_warning(warnings_of_faults, extra, warning):
    assert warning in warnings_of_faults


@pytest.fixture(scope="module")
def warnings_of_faults(tmp_path_factory):
    """One build with every fault in it: each must be named, and the build must fail."""
    faults = [case[0] for case in test_a_link_to_nothing_is_a_warning.pytestmark[0].args[1]]
    folder = sample_book.make(tmp_path_factory.mktemp("faults"), extra="".join(faults))
    done = sample_book.build(folder)
    assert done.returncode != 0
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "WARNING" in line)
