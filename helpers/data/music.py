"""Bach's chorales: read from MusicXML, laid on a grid of sixteenths, and played with sines."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Dataset, cached, package_file, split

VOICES = ["soprano", "alto", "tenor", "bass"]
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def read_musicxml(file: Path) -> list[list[tuple[float, float, int]]]:
    """The notes of each part of a compressed MusicXML file: (start, end, MIDI pitch), in quarters, ties joined.

    Grace notes and rests are left out; repeats are not played twice. Of a chord all notes are there.
    """
    with zipfile.ZipFile(file) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        root = ElementTree.fromstring(archive.read(container.find(".//{*}rootfile").get("full-path")))
    return [_read_part(part) for part in root.iterfind("part")]


def _read_part(part: ElementTree.Element) -> list[tuple[float, float, int]]:
    notes: list[tuple[float, float, int]] = []
    tied: dict[int, int] = {}  # pitch: the note that is still sounding
    divisions, measure_start = 1, 0.0
    for measure in part.iterfind("measure"):
        now = begin = furthest = measure_start
        for element in measure:
            if element.tag == "attributes":
                divisions = int(element.findtext("divisions", divisions))
            duration = float(element.findtext("duration", 0)) / divisions
            if element.tag == "backup":
                now -= duration
            elif element.tag == "forward":
                now += duration
            elif element.tag == "note" and element.find("grace") is None:
                if element.find("chord") is None:
                    begin, now = now, now + duration
                if (pitch := element.find("pitch")) is not None:
                    number = _STEPS[pitch.findtext("step")] + int(float(pitch.findtext("alter", "0")))
                    number += 12 * (int(pitch.findtext("octave")) + 1)
                    ties = {tie.get("type") for tie in element.iterfind("tie")}
                    if "stop" in ties and number in tied:
                        start, _, _ = notes[tied[number]]
                        notes[tied[number]] = (start, begin + duration, number)
                    else:
                        tied[number] = len(notes)
                        notes.append((begin, begin + duration, number))
                    if "start" not in ties:
                        tied.pop(number, None)
            furthest = max(furthest, now)
        measure_start = furthest
    return sorted(notes)


def _read_chorales() -> dict[str, np.ndarray]:
    grids, onsets, titles, known = [], [], [], set()
    for file in sorted(package_file("music21", "corpus", "bach").glob("*.mxl")):
        parts = read_musicxml(file)
        if len(parts) != 4 or not all(parts):
            continue
        steps = round(4 * max(end for part in parts for _, end, _ in part))
        grid, onset = np.zeros((2, steps, 4), dtype=np.int8)
        for voice, notes in enumerate(parts):
            for start, end, pitch in notes:
                first = int(4 * start)  # what is shorter than a sixteenth begins with its sixteenth
                grid[first : max(first + 1, round(4 * end)), voice] = pitch
                onset[first, voice] = 1
        steps_taken = np.diff(grid, axis=0).tobytes()
        if steps_taken in known:  # the same chorale, perhaps in another key
            continue
        known.add(steps_taken)
        grids.append(grid)
        onsets.append(onset)
        titles.append(file.stem.upper().replace("BWV", "BWV "))
    lengths = np.array([len(grid) for grid in grids])
    return {
        "grid": np.concatenate(grids),
        "onset": np.concatenate(onsets),
        "length": lengths,
        "title": np.array(titles),
    }


def chorales() -> Dataset:
    """Four-part chorales of Bach, int64 (N, T, 4): soprano, alto, tenor, bass, one row a sixteenth.

    Values are MIDI pitches (60: middle C), 0 for a rest, -1 after the end. ``y["onset"]`` (N, T, 4) is 1 where a note
    begins (a repeated note is otherwise one long note), ``y["length"]`` the number of sixteenths. ``Part.texts`` holds
    the numbers in Bach's catalogue. Shuffled; 80, 10 and 10 %. A chorale is there once, whatever its key; Bach set some
    melodies several times, and such settings may stand in different parts.
    """
    arrays = cached("chorales", _read_chorales, "music21")
    lengths = arrays["length"]
    ends = np.cumsum(lengths)[:-1]
    x, onset = (
        torch.nn.utils.rnn.pad_sequence(
            [torch.from_numpy(piece.astype(np.int64)) for piece in np.split(arrays[name], ends)], True, padding
        )
        for name, padding in (("grid", -1), ("onset", 0))
    )
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    tenth = len(x) // 10
    y = {"onset": onset[order].to(torch.uint8), "length": torch.from_numpy(lengths)[order]}
    return Dataset(
        "chorales",
        *split((len(x) - 2 * tenth, tenth, tenth), x[order], y, texts=arrays["title"][order.numpy()].tolist()),
        levels=128,
        source="the chorales in MusicXML that the package music21 carries in its corpus",
        licence="music: public domain; encodings: distributed by music21 with their encoders' permission, "
        "commercial use may be restricted",
        credit="Johann Sebastian Bach; encoded by Margaret Greentree and others for music21's corpus",
    )


def piano_roll(x: Tensor) -> Tensor:
    """Which of the 88 keys sound: (..., T, 4) pitches as (..., T, 88) uint8; key 0 is MIDI pitch 21; padding is silent.

    ValueError for a pitch beyond the keyboard.
    """
    x = torch.as_tensor(x)
    if x.ndim < 2 or x.is_floating_point() or ((x > 0) & ((x < 21) | (x > 108))).any():
        raise ValueError(f"pitches are whole numbers (..., T, voices), 21 to 108, or 0 or -1; got {tuple(x.shape)}")
    roll = torch.zeros(*x.shape[:-1], 89, dtype=torch.uint8)
    roll.scatter_(-1, (x.long() - 20).clamp(min=0), 1)  # rests and padding fall on place 0
    return roll[..., 1:]


def play(x: Tensor, onset: Tensor | None = None, *, step: float = 0.125, sample_rate: int = 22_050) -> Tensor:
    """Sound float32 in [-1, 1] of pitches (T, voices), one row every ``step`` seconds, each voice a sine that fades.

    ``onset`` (T, voices) tells where notes begin; without it, where the pitch changes.
    """
    x = torch.as_tensor(x)
    if x.ndim != 2 or x.is_floating_point() or len(x) == 0:
        raise ValueError(f"pitches are whole numbers (T, voices); got {x.dtype} {tuple(x.shape)}")
    if onset is not None and onset.shape != x.shape:
        raise ValueError(f"onset has the shape of the pitches {tuple(x.shape)}; got {tuple(onset.shape)}")
    if not step > 0 or sample_rate < 1:
        raise ValueError(f"step and sample_rate are above zero; got {step} and {sample_rate}")
    begins = torch.ones_like(x, dtype=torch.bool)
    begins[1:] = x[1:] != x[:-1]
    if onset is not None:
        begins |= onset.bool()
    rows = torch.arange(len(x))[:, None].expand_as(x)
    since = rows - torch.where(begins, rows, 0).cummax(dim=0).values  # steps since the note began
    samples = round(step * sample_rate)
    within = torch.arange(samples) / sample_rate  # seconds within a step
    age = (since * step)[:, None] + within[None, :, None]  # (T, samples, voices)
    frequency = torch.where(x > 0, 440 * 2.0 ** ((x - 69) / 12), 0.0)[:, None]
    wave = sum(torch.sin(2 * torch.pi * k * frequency * age) / k**2 for k in (1, 2, 3))
    last = torch.ones_like(begins)
    last[:-1] = begins[1:]
    fade_in = (age / 0.01).clamp(max=1)
    fade_out = torch.where(last[:, None], ((step - within) / 0.01).clamp(max=1)[None, :, None], 1.0)
    sound = (wave * fade_in * fade_out * torch.exp(-1.5 * age)).sum(dim=2).flatten()
    return sound / sound.abs().max().clamp(min=1e-9)
