"""Draw the 3,000 faces of ``helpers.data.faces`` and write ``helpers/data/faces.npz``.

Needs node and npm, and the network once; the book itself needs neither. The same file comes out on every machine:
the drawings are exact at 16 by 16 pixels, and the seeds are fixed.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

PACKAGES = ["@dicebear/core@9.4.3", "@dicebear/pixel-art@9.4.3", "@resvg/resvg-js@2.6.2"]
COUNT, CANDIDATES = 3_000, 3_300
# What a face may lack, and the name of its colour
OPTIONAL = {"glasses": "glassesColor", "hat": "hatColor", "beard": None, "accessories": "accessoriesColor"}

DRAW = """
import { createAvatar } from '@dicebear/core';
import * as pixelArt from '@dicebear/pixel-art';
import { Resvg } from '@resvg/resvg-js';
const options = { backgroundColor: ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf'], glassesProbability: 25,
  hatProbability: 20, beardProbability: 15, accessoriesProbability: 15 };
for (let i = 0; i < Number(process.argv[2]); i++) {
  const avatar = createAvatar(pixelArt, { seed: 'face ' + i, ...options });
  const pixels = new Resvg(avatar.toString()).render().pixels.toString('base64');
  console.log(JSON.stringify({ pixels, ...avatar.toJson().extra }));
}
"""


def draw(count: int) -> list[dict]:
    """One dictionary a face: its attributes, and its pixels (16, 16, 3)."""
    import base64

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "install", "--silent", "--prefix", folder, *PACKAGES], check=True)
        script = Path(folder, "draw.mjs")
        script.write_text(DRAW)
        lines = subprocess.run(["node", script, str(count)], check=True, capture_output=True, text=True).stdout
    faces = [json.loads(line) for line in lines.splitlines()]
    for face in faces:
        rgba = np.frombuffer(base64.b64decode(face["pixels"]), dtype=np.uint8).reshape(16, 16, 4)
        if (rgba[..., 3] != 255).any():
            raise ValueError("a face with transparent pixels")
        face["pixels"] = rgba[..., :3]
    return faces


def attributes(face: dict) -> dict[str, str]:
    """The attributes of a face by plain names; what it lacks is "none", and so is the colour of that."""
    values = {name: face.get(name) or "none" for name in ("hair", "eyes", "mouth", "clothing", *OPTIONAL)}
    for name in ("skin", "hair", "eyes", "mouth", "clothing", "glasses", "hat", "accessories"):
        values[f"{name} colour"] = face[f"{name}Color"] if values.get(name) != "none" else "none"
    values["background"] = face["primaryBackgroundColor"]
    values["mood"] = values["mouth"].rstrip("0123456789")  # happy or sad
    values["hair length"] = values["hair"].rstrip("0123456789")  # short or long
    return values


def main() -> None:
    distinct = {face["pixels"].tobytes(): face for face in draw(CANDIDATES)}
    faces = list(distinct.values())[:COUNT]
    if len(faces) < COUNT:
        raise ValueError(f"only {len(faces)} distinct faces among {CANDIDATES}")
    pixels = np.stack([face["pixels"] for face in faces])
    palette, index = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    table = [attributes(face) for face in faces]
    names = {
        name: sorted({row[name] for row in table}, key=lambda value: (value != "none", value)) for name in table[0]
    }
    values = np.array([[options.index(row[name]) for row in table] for name, options in names.items()], dtype=np.uint8)
    file = Path(__file__).parents[1] / "helpers" / "data" / "faces.npz"
    np.savez_compressed(
        file,
        palette=palette,
        pixels=index.reshape(-1, 16, 16).astype(np.uint8 if len(palette) <= 256 else np.uint16),
        values=values,
        names=np.array(json.dumps(names)),
    )
    print(f"{file.name}: {len(faces)} faces, {len(palette)} colours, {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
