"""What is claimed of the data sets, against independent computations: densities, captions, notes, series, texts."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from scipy import stats

from helpers import data
from helpers.data import base, measurements, music, shapes, text

PLANE = [name for name in data.TOYS if data.toys(name, n=10).truth.dimension == 2]
LINE = [name for name in data.TOYS if name not in PLANE]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """The cache that test_data.py fills."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    monkeypatch.setenv("HELPERS_CACHE", str(root / "data-cache"))


def grid(extent: float, cells: int) -> torch.Tensor:
    return ((torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 - 1) * extent


@pytest.mark.parametrize("name", data.TOYS)
def test_a_toys_density_integrates_to_one(name):
    """Midpoints of small cells; a board's edges fall on the cells' edges."""
    truth = data.toys(name, n=10).truth
    cells = 300 if truth.dimension == 2 else 20_000
    line = grid(truth.extent, cells)
    points = torch.cartesian_prod(line, line) if truth.dimension == 2 else line[:, None]
    total = truth.log_prob(points).exp().sum().item() * (2 * truth.extent / cells) ** truth.dimension
    assert total == pytest.approx(1, abs=1e-4 if name != "claw" else 1e-3)
    assert total * (2 * math.pi) ** -0.5 != pytest.approx(1, abs=1e-3)  # mutant: 2π for its root


def chi_square(points: torch.Tensor, truth, cells: int = 36, fine: int = 4) -> float:
    """The p-value of counts in a grid of cells against the density's integral over each; rare cells taken together."""
    line = grid(truth.extent, cells * fine)
    mass = truth.log_prob(torch.cartesian_prod(line, line)).exp() * (2 * truth.extent / (cells * fine)) ** 2
    expected = mass.reshape(cells, fine, cells, fine).sum(dim=(1, 3)).flatten().numpy() * len(points)
    place = ((points.double() / truth.extent + 1) / 2 * cells).long().clamp(0, cells - 1)
    counts = np.bincount((place[:, 0] * cells + place[:, 1]).numpy(), minlength=cells**2)
    often = expected >= 5
    rest = len(points) - expected[often].sum()
    observed = np.append(counts[often], counts[~often].sum())
    return stats.chisquare(observed, np.append(expected[often], rest)).pvalue


@pytest.mark.parametrize("name", PLANE)
def test_points_of_the_plane_follow_their_density(name):
    dataset = data.toys(name, n=20_000, seed=3)
    assert chi_square(dataset.train.x, dataset.truth) > 1e-3
    assert chi_square(1.03 * dataset.train.x, dataset.truth) < 1e-6  # mutant: 3 % too wide
    fresh = dataset.truth.sample(20_000, generator=torch.Generator().manual_seed(1))
    assert chi_square(fresh, dataset.truth) > 1e-3


@pytest.mark.parametrize("name", LINE)
def test_points_on_the_line_follow_their_density(name):
    dataset = data.toys(name, n=20_000, seed=3)
    line = grid(dataset.truth.extent, 20_000)
    steps = dataset.truth.log_prob(line[:, None]).exp().cumsum(0) * (line[1] - line[0])
    distribution = lambda x: np.interp(x, line, steps)  # noqa: E731
    x = dataset.train.x[:, 0].numpy()
    assert stats.kstest(x, distribution).pvalue > 1e-3
    assert stats.kstest(1.05 * x, distribution).pvalue < 1e-4  # mutant: 5 % too wide


def test_the_same_seed_draws_the_same_points_and_another_seed_others():
    truth = data.toys("moons", n=10).truth
    draw = lambda seed: truth.sample(5, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert not torch.equal(data.toys(seed=1).train.x, data.toys(seed=2).train.x)


def test_an_autoregressive_series_has_the_density_of_a_normal_vector():
    """Truth: the covariance by solving for the stationary distribution of the companion matrix."""
    from scipy.linalg import solve_discrete_lyapunov

    dataset = data.series("ar", n=2000)
    step = np.array([[1.6, -0.8], [1, 0]])
    covariance = solve_discrete_lyapunov(step, np.diag([1.0, 0]))
    lags = np.array([(np.linalg.matrix_power(step, k) @ covariance)[0, 0] for k in range(64)])
    normal = stats.multivariate_normal(cov=lags[np.abs(np.subtract.outer(np.arange(64), np.arange(64)))])
    x = dataset.train.x.double()
    assert dataset.truth.log_prob(x).numpy() == pytest.approx(normal.logpdf(x.numpy()), abs=1e-6)
    mutant = stats.multivariate_normal(cov=np.diag(lags[:1].repeat(64)))  # independent in time
    assert abs(mutant.logpdf(x.numpy()).mean() - dataset.truth.log_prob(x).mean()) > 10
    assert (x.T.cov()[0, 0] / lags[0]).item() == pytest.approx(1, abs=0.15)


def test_mnist1d_is_the_recipe_of_its_author():
    """A second writing of it, one series at a time as there; the two samples agree in distribution."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(5)
    templates = measurements._TEMPLATES
    templates = (templates - templates.mean(1, keepdims=True)) / templates.std(1, keepdims=True)
    templates = (templates - templates[:, :1]) / 6

    def one(x):
        x = np.concatenate([x + 1e-8, np.zeros(36 + int(rng.random() * 25))])
        x = np.interp(np.linspace(0, 1, 72), np.linspace(0, 1, len(x)), x)
        x = np.roll(x * (1 + 0.4 * (rng.random() - 0.5)), rng.integers(48))
        x = np.where(x != 0, x, gaussian_filter(0.25 * rng.standard_normal(72), 2)) + 0.02 * rng.standard_normal(72)
        x = x - 0.75 * (rng.random() - 0.5) * np.linspace(-0.5, 0.5, 72)
        return np.interp(np.linspace(0, 1, 40), np.linspace(0, 1, 72), x)

    want = np.stack([one(templates[k % 10]) for k in range(5000)])
    want = (want - want.mean()) / want.std()
    dataset = data.series("mnist1d", n=5000)
    got = dataset.train.x.numpy()
    features = {
        "first": lambda x: x[:, 0],
        "middle": lambda x: x[:, 20],
        "largest": lambda x: x.max(1),
        "roughness": lambda x: np.abs(np.diff(x, 2)).mean(1),
    }
    agrees = lambda x: all(stats.ks_2samp(f(x), f(want)).pvalue > 1e-4 for f in features.values())  # noqa: E731
    assert agrees(got)
    assert not agrees(got + 0.1 * rng.standard_normal(got.shape))  # mutant: more of the white noise


def altered(caption: str, rng: np.random.Generator) -> str:
    """The caption with one word exchanged for another of its kind: what it says is then false."""
    words = caption.split(" ")
    kinds = [list(shapes.COLOURS), shapes.SHAPES, shapes.SIZES]
    place = rng.choice([i for i, word in enumerate(words) if any(word in kind for kind in kinds)])
    kind = next(kind for kind in kinds if words[place] in kind)
    words[place] = rng.choice([word for word in kind if word != words[place]])
    return " ".join(words)


def test_the_checker_believes_true_captions_and_no_altered_one():
    dataset = data.scenes(n=1000, seed=1)
    parts = dataset.parts.values()
    for part in parts:
        assert (data.caption_score(part.x, part.texts) == 1).all()
    rng = np.random.default_rng(0)
    test = dataset.test
    wrong = data.caption_score(test.x, [altered(caption, rng) for caption in test.texts])
    assert (wrong < 1).all() and wrong.min() >= 0
    swap = {"left": "right", "right": "left", "above": "below", "below": "above"}
    turned = [" ".join(swap.get(word, word) for word in caption.split()) for caption in test.texts]
    related = torch.tensor([caption != other for caption, other in zip(test.texts, turned, strict=True)])
    assert related.sum() > 50
    assert (data.caption_score(test.x, turned)[related] < 1).all()
    two = torch.tensor([len(caption.split(" a ")) == 2 for caption in test.texts])
    one_of_two = [
        " ".join(caption.split(" ")[: 4 if caption.split(" ")[1] in shapes.SIZES else 3]) for caption in test.texts
    ]
    assert (data.caption_score(test.x, one_of_two)[two] < 1).all()  # one object is not all that is there
    assert (data.caption_score(torch.full_like(test.x, 30), test.texts) < 1).all()  # nor is nothing
    # Twelve grey levels of noise, as a model's samples have it, do not mislead it
    noise = torch.randint(-12, 13, test.x.shape, generator=torch.Generator().manual_seed(0))
    noisy = (test.x.int() + noise).clamp(0, 255).to(torch.uint8)
    assert (data.caption_score(noisy, test.texts) == 1).float().mean() > 0.9


def test_held_out_pairs_are_in_half_of_the_test_alone():
    dataset = data.scenes(n=1000)
    pairs = {(list(shapes.COLOURS).index(colour), shapes.SHAPES.index(shape)) for colour, shape in shapes.HELD_OUT}
    for name, part in dataset.parts.items():
        colour, shape = part.y["colour"].tolist(), part.y["shape"].tolist()
        novel = [any(p in pairs for p in zip(c, s, strict=True)) for c, s in zip(colour, shape, strict=True)]
        assert novel == part.y["held_out"].bool().tolist()
        assert sum(novel) == (len(part) // 2 if name == "test" else 0)
    assert len(shapes.WORDS) == 22 == len({word for text in dataset.train.texts for word in text.split()})


@pytest.mark.parametrize(
    "caption", ["", "a", "red ring", "a red", "a ring red", "a red ring left a blue ring", "a red ring and"]
)
def test_what_is_no_caption_is_refused(caption):
    with pytest.raises(ValueError, match="not a caption like"):
        data.caption_score(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), [caption])


def test_boxes_enclose_what_is_seen():
    """Truth: the pixels of scenes with one object."""
    part = data.scenes("detection", n=600).train
    assert (part.y["shape"] >= 0).sum(dim=1).unique().tolist() == [1, 2, 3, 4, 5, 6]
    single = (part.y["shape"] >= 0).sum(dim=1) == 1
    lit = (part.x[single] != torch.tensor(shapes.GROUND, dtype=torch.uint8)).any(dim=-1)
    rows, columns = lit.any(dim=2).int(), lit.any(dim=1).int()
    pixels = torch.stack(
        [columns.argmax(1), rows.argmax(1), 48 - columns.flip(1).argmax(1), 48 - rows.flip(1).argmax(1)], dim=1
    )
    boxes = part.y["boxes"][single, 0]
    assert single.sum() > 50 and (boxes - pixels).abs().max() <= 1
    assert (boxes + 2 - pixels).abs().max() > 1  # mutant: boxes two pixels off
    assert ((part.y["boxes"] < 0).all(dim=2) == (part.y["shape"] < 0)).all()


def test_chorales_have_the_notes_that_music21_reads():
    import music21

    file = base.package_file("music21", "corpus", "bach", "bwv269.mxl")
    want = [
        sorted(
            (float(note.offset), float(note.offset + note.quarterLength), pitch.midi)
            for note in part.stripTies().flatten().notes
            for pitch in note.pitches
        )
        for part in music21.converter.parse(file).parts
    ]
    got = music.read_musicxml(file)
    assert got == want and sum(map(len, got)) > 150
    shifted = [[(start, end, pitch + 1) for start, end, pitch in part] for part in got]
    assert shifted != want  # mutant: alterations one too high
    dataset = data.chorales()
    part, k = next((p, p.texts.index("BWV 269")) for p in dataset.parts.values() if "BWV 269" in p.texts)
    assert part.y["onset"][k].sum(dim=0).tolist() == [len(notes) for notes in want]
    for voice, notes in enumerate(want):
        for start, end, pitch in notes:
            assert (part.x[k, int(4 * start) : int(4 * end), voice] == pitch).all()


def test_chorales_lie_as_choirs_sing_and_can_be_played():
    dataset = data.chorales()
    assert sum(len(part) for part in dataset.parts.values()) > 355
    x = dataset.train.x
    means = [x[..., voice][x[..., voice] > 0].float().mean() for voice in range(4)]
    assert means == sorted(means, reverse=True)
    piece = x[0, : dataset.train.y["length"][0]]
    assert (piece >= 0).all() and (x[0, len(piece) :] == -1).all()
    roll = data.piano_roll(piece)
    assert roll.shape == (len(piece), 88) and (roll.sum(1) <= 4).all()
    assert all(roll[5, pitch - 21] == 1 for pitch in piece[5].tolist() if pitch > 0)
    sound = data.play(torch.full((8, 1), 69), sample_rate=8000)  # the A of 440 Hz for one second
    assert sound.shape == (8000,) and sound.abs().max() == pytest.approx(1)
    assert torch.fft.rfft(sound).abs().argmax() == 440
    assert torch.fft.rfft(data.play(torch.full((8, 1), 70), sample_rate=8000)).abs().argmax() == 466  # mutant: half up


def test_a_spectrogram_shows_the_pitch_and_survives_the_way_back():
    time = torch.arange(5120) / 7350
    tone = lambda hertz: (2**14 * torch.sin(2 * torch.pi * hertz * time)).to(torch.int16)[None]  # noqa: E731
    loudest = [data.spectrogram(tone(hertz))[0, :, 16].argmax().item() for hertz in (300, 1000, 3000)]
    mel = lambda hertz: 2595 * math.log10(1 + hertz / 700)  # noqa: E731
    assert loudest == [round(mel(hertz) / mel(3675) * 33) - 1 for hertz in (300, 1000, 3000)]
    pictures = data.speech("spectrogram").test.x[:10]
    again = data.spectrogram((data.sound_of(pictures) * 2**15).clamp(-(2**15), 2**15 - 1).to(torch.int16))
    away = lambda x: (x.float() - pictures.float()).abs().mean()  # noqa: E731
    assert away(again) < 12 < away(again.roll(4, dims=1))  # mutant: bands shifted by four
    assert (data.spectrogram(torch.zeros(1, 5120, dtype=torch.int16)) == 0).all()


def test_plays_are_whole_and_clean():
    dataset = data.shakespeare()
    whole = "".join(part.text for part in dataset.parts.values())
    assert 4_700_000 < len(whole) < 4_900_000
    assert set("*_#[]\\").isdisjoint(whole) and len(dataset.vocabulary) < 70
    assert dataset.vocabulary.decode(dataset.test.x[:2000]) == dataset.test.text[:2000]
    for line in ("HAMLET:\nTo be, or not to be: that is the question:", "PROSPERO:\nOur revels now are ended."):
        assert line.split("\n")[1] in whole and line.split("\n")[0] in whole
    assert (
        "Is this a dagger which I see before me" in dataset.test.text and "dagger which I see" not in dataset.train.text
    )
    plays = data.speeches().labels["play"]
    assert len(plays) == 38 and "Measure for measure" in plays and not any("#" in play for play in plays)


def test_a_play_is_read_as_a_reader_would():
    markdown = (
        "# A Play\n\n## ACT I\n\n### SCENE I. Here.\n\n_Enter two_\n\n"
        "**FIRST**  \nGood day. _\\[Aside]_  \nBad day.\n\n"
        "_Exit\nboth_\n\nBut _unpaired.\n\n**SECOND LORD**  \n_\\[Reads]_  \nWell\\--no.\n"
    )
    assert text._read_play(markdown) == [("FIRST", "Good day.\nBad day.\nBut"), ("SECOND LORD", "Well--no.")]


def test_a_vocabulary_goes_both_ways():
    vocabulary = data.Vocabulary.from_text("banana")
    assert vocabulary.symbols == ("a", "b", "n") and vocabulary.encode("nab").tolist() == [2, 0, 1]
    codes = vocabulary.encode_all(["a", "ban"])
    assert codes.tolist() == [[0, -1, -1], [1, 0, 2]] and vocabulary.decode(codes[0]) == "a"
    assert vocabulary.encode("").tolist() == []
    with pytest.raises(ValueError, match="not among the 3 symbols: 'x'"):
        vocabulary.encode("bax")
    for wrong in (torch.tensor([3]), torch.tensor([0.0]), torch.tensor([[0]])):
        with pytest.raises(ValueError, match="codes are whole numbers"):
            vocabulary.decode(wrong)
    with pytest.raises(ValueError, match="not empty"):
        data.Vocabulary.from_text("")
    words = data.Vocabulary(("a", "b"), " ")
    assert words.decode(words.encode("b a")) == "b a"


def test_names_are_of_their_languages():
    dataset = data.names()
    known = {
        name: (dataset.labels["language"][k])
        for p in dataset.parts.values()
        for name, k in zip(p.texts, p.y["language"], strict=True)
    }
    assert known["Wiśniewski"] == "Polish" and known["Yıldırım"] == "Turkish" and known["Bartošová"] == "Czech"
