"""Spoken digits: eSpeak NG says them with a hundred voices."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Dataset, Part, cached, choose, package_file

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ACCENTS = {"British": "gmw/en", "American": "gmw/en-US"}
SAMPLE_RATE = 7_350  # a third of what eSpeak gives
LENGTH = 5_120  # samples of a clip: 0.7 seconds
_BANDS, _WINDOW, _HOP = 32, 320, 160  # of a spectrogram: 32 bands by 32 frames
_FLOOR = 60.0  # decibels from the loudest to the faintest level of a spectrogram
_UNUSABLE = {"announcer", "anikaRobot", "whisper", "whisperf"}  # clips or says nothing that has a pitch


def _synthesise() -> dict[str, np.ndarray]:
    """Clips int16 (voices, accents, digits, LENGTH) at 7,350 hertz, their lengths, the names of the voices."""
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    name = "espeak-ng.dll" if suffix == ".dll" else f"libespeak-ng{suffix}"
    espeak = ctypes.CDLL(str(package_file("espeakng_loader", name)))
    data = package_file("espeakng_loader", "espeak-ng-data")
    pieces: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(samples, count, _):
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    rate = espeak.espeak_Initialize(2, 0, str(data).encode(), 0)  # 2: give the samples to the callback
    if rate != 3 * SAMPLE_RATE:
        raise RuntimeError(f"eSpeak NG did not start as wanted: sample rate {rate} instead of {3 * SAMPLE_RATE}")
    espeak.espeak_SetSynthCallback(collect)
    voices = sorted(file.name for file in (data / "voices" / "!v").iterdir() if file.name not in _UNUSABLE)
    clips = np.zeros((len(voices), len(ACCENTS), len(WORDS), LENGTH), dtype=np.int16)
    lengths = np.zeros(clips.shape[:3], dtype=np.int64)
    for i, voice in enumerate(voices):
        for j, accent in enumerate(ACCENTS.values()):
            if espeak.espeak_SetVoiceByName(f"{accent}+{voice}".encode()) != 0:
                raise RuntimeError(f"eSpeak NG lacks the voice {accent}+{voice}")
            for k, word in enumerate(WORDS):
                pieces.clear()
                text = word.encode()
                espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath and flutter are random
                espeak.espeak_Synth(text, len(text) + 1, 0, 1, 0, 1, None, None)
                clip = _third(np.concatenate(pieces))
                loud = np.flatnonzero(np.abs(clip) > 300)
                clip = clip[max(loud[0] - 80, 0) : loud[-1] + 80][:LENGTH]
                clips[i, j, k, : len(clip)], lengths[i, j, k] = clip, len(clip)
    espeak.espeak_Terminate()
    return {"clips": clips, "lengths": lengths, "voices": np.array(voices)}


def _third(samples: np.ndarray) -> np.ndarray:
    """Every third sample after a low pass: a windowed sinc in integers, so that all machines agree."""
    place = np.arange(-24, 25)
    taps = np.rint(2**14 * np.sinc(place / 3 * 0.92) * np.hamming(49) * 0.92 / 3).astype(np.int64)
    return np.clip(np.convolve(samples.astype(np.int64), taps, "same")[::3] >> 14, -(2**15), 2**15 - 1).astype(np.int16)


def speech(kind: str = "wave") -> Dataset:
    """The ten digits spoken by a hundred voices in two accents. Voices are held out: 80, 10 and 10 %.

    ``kind="wave"``: int16 (N, 5120), 7,350 samples a second, silent after the end; ``y["length"]``.
    ``kind="spectrogram"``: uint8 (N, 32, 32), see :func:`spectrogram`.
    ``y``: digit, accent, voice. ``Part.texts`` holds the words.
    """
    choose("kind", kind, ("wave", "spectrogram"))
    arrays = cached("speech", _synthesise, "espeakng-loader")
    names = arrays["voices"].tolist()
    order = np.random.default_rng(0).permutation(len(names))
    tenth = len(names) // 10
    groups = {"train": order[2 * tenth :], "validation": order[:tenth], "test": order[tenth : 2 * tenth]}
    parts = {}
    for part, voices in groups.items():
        voices = np.sort(voices)
        voice, accent, digit = (
            torch.from_numpy(axis.reshape(-1).astype(np.int64))
            for axis in np.meshgrid(voices, np.arange(len(ACCENTS)), np.arange(10), indexing="ij")
        )
        x = torch.from_numpy(arrays["clips"][voices].reshape(-1, LENGTH))
        y = {"digit": digit, "accent": accent, "voice": voice}
        y["length"] = torch.from_numpy(arrays["lengths"][voices].reshape(-1))
        parts[part] = Part(spectrogram(x) if kind == "spectrogram" else x, y, texts=tuple(WORDS[d] for d in digit))
    return Dataset(
        f"speech: {kind}",
        **parts,
        levels=256 if kind == "spectrogram" else 2**16,
        source="spoken by eSpeak NG 1.52, which the package espeakng-loader carries",
        licence="the sounds are free to use; the program that speaks is under GPL 3",
        credit="eSpeak NG's authors, Jonathan Duddington and others",
        labels={"digit": WORDS, "accent": list(ACCENTS), "voice": names},
        sample_rate=SAMPLE_RATE,
    )


def _bands() -> Tensor:
    """How much each frequency of a window counts in each band, (32, 161): triangles evenly wide on the mel scale."""
    frequency = torch.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1, dtype=torch.float64)
    mel = torch.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), _BANDS + 2, dtype=torch.float64)
    edge = 700 * (10 ** (mel / 2595) - 1)
    low, middle, high = edge[:-2, None], edge[1:-1, None], edge[2:, None]
    return torch.minimum((frequency - low) / (middle - low), (high - frequency) / (high - middle)).clamp(min=0)


def _frames(wave: Tensor) -> Tensor:
    window = torch.hann_window(_WINDOW, dtype=torch.float64)
    return torch.stft(wave, _WINDOW, _HOP, window=window, center=True, pad_mode="constant", return_complex=True)


def spectrogram(wave: Tensor) -> Tensor:
    """Loudness uint8 (N, 32 bands, 32 frames) of clips int16 (N, 5120): the lowest band first, 255 the loudest.

    A level is 60/255 decibels; the loudest point of a clip is 255, what is 60 dB fainter is 0.
    """
    if not isinstance(wave, Tensor) or wave.ndim != 2 or wave.shape[1] != LENGTH or wave.dtype != torch.int16:
        got = f"{wave.dtype} {tuple(wave.shape)}" if isinstance(wave, Tensor) else type(wave).__name__
        raise ValueError(f"clips are int16 (N, {LENGTH}); got {got}")
    # In double precision, so that the rounding at the end comes out alike on all machines
    energy = _bands() @ _frames(wave.double() / 2**15)[..., : LENGTH // _HOP].abs().square()
    decibels = 10 * torch.log10(energy.clamp(min=1e-12))
    decibels = decibels - decibels.amax(dim=(1, 2), keepdim=True).clamp(min=-60)  # silence stays silent
    return ((1 + decibels / _FLOOR).clamp(min=0) * 255).round().to(torch.uint8)


def sound_of(picture: Tensor, *, rounds: int = 32) -> Tensor:
    """A wave float32 (N, 5120) in [-1, 1] whose spectrogram is about ``picture``, uint8 (N, 32, 32).

    The bands are spread over their frequencies, and the phases found by Griffin and Lim (1984): alternate between
    waves and spectra, keeping the phases of the one and the loudness of the other.
    """
    if not isinstance(picture, Tensor) or picture.shape[1:] != (_BANDS, LENGTH // _HOP) or picture.dtype != torch.uint8:
        got = f"{picture.dtype} {tuple(picture.shape)}" if isinstance(picture, Tensor) else type(picture).__name__
        raise ValueError(f"spectrograms are uint8 (N, 32, 32); got {got}")
    energy = torch.where(picture > 0, 10 ** ((picture.double() / 255 - 1) * _FLOOR / 10), 0.0)
    bands = _bands()
    spread = (bands / bands.sum(dim=1, keepdim=True)).T  # a band's energy, shared among its frequencies
    loudness = torch.nn.functional.pad((spread @ energy).sqrt(), (0, 1))
    window = torch.hann_window(_WINDOW, dtype=torch.float64)
    angle = 2 * torch.pi * torch.rand(loudness.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    phase = torch.polar(torch.ones_like(loudness), angle)
    for _ in range(rounds):
        wave = torch.istft(loudness * phase, _WINDOW, _HOP, window=window, length=LENGTH)
        phase = torch.polar(torch.ones_like(loudness), _frames(wave).angle())
    return (wave / wave.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)).float()
