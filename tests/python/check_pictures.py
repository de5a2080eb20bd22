"""`examples/preprocess.py` beside the crate, on pictures of odd sizes and of every mode.

    python check_pictures.py write FOLDER                 writes the pictures
    python check_pictures.py compare FOLDER LEVELS SIDE   LEVELS: how the crate reads them, by name, uint8 [n, 3, side, side]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from preprocess import prepare  # noqa: E402: it is found there

ORIENTATION = 0x0112


def write(folder):
    random = np.random.default_rng(0)

    def pixels(width, height, channels):
        """Waves under noise: smooth enough for JPEG, and different at every pixel."""
        y, x, c = np.ogrid[:height, :width, :channels]
        waves = 128 + 100 * np.sin(x / 9 + c) * np.cos(y / 7 + 2 * c)
        return (waves + random.integers(-20, 21, (height, width, channels))).clip(0, 255).astype(np.uint8)

    def image(mode, width, height):
        values = pixels(width, height, len(mode))
        return Image.fromarray(values[..., 0] if mode == "L" else values)

    for width, height in [(47, 31), (200, 133), (33, 64), (32, 32), (1, 1), (3, 700), (31, 32), (64, 64)]:
        image("RGB", width, height).save(folder / f"rgb-{width}x{height}.png")
    for mode in ["L", "LA", "RGBA"]:
        image(mode, 47, 31).save(folder / f"{mode.lower()}.png")
    ground = pixels(50, 40, 4)
    ground[..., 3] = random.choice([0, 255], (40, 50))
    Image.fromarray(ground).save(folder / "rgba-holes.png")
    palette = image("RGB", 71, 50).quantize(50)
    palette.save(folder / "palette.png")
    palette.save(folder / "palette-alpha.png", transparency=bytes(range(0, 250, 5)))
    palette.save(folder / "palette-hole.png", transparency=7)
    image("L", 40, 41).save(folder / "l-hole.png", transparency=128)
    image("L", 40, 41).convert("1").save(folder / "bilevel.png")
    deep = (pixels(45, 60, 1)[..., 0].astype(np.uint16) * 257 + random.integers(0, 99, (60, 45))).clip(0, 65535)
    Image.fromarray(deep.astype(np.uint16)).save(folder / "gray16.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        image("RGB", 80, 45).save(folder / f"turned-{orientation}.jpg", exif=exif, quality=95)
    exif[ORIENTATION] = 6
    image("RGB", 80, 45).save(folder / "turned.png", exif=exif)
    image("L", 90, 70).save(folder / "gray.jpg", quality=90)
    for ending in ["bmp", "tif", "ppm"]:
        image("RGB", 47, 31).save(folder / f"rgb.{ending}")
    image("RGBA", 47, 31).save(folder / "rgba.tif", compression="tiff_lzw")
    image("RGBA", 47, 31).save(folder / "rgba.webp", lossless=True, exact=True)
    palette.save(folder / "palette.gif")
    palette.save(folder / "palette-hole.gif", transparency=7)


def compare(folder, levels, side):
    """Fails where levels differ by more than the decoders: JPEG's by up to 3 at 32 × 32, where more is averaged than at a
    larger side, else by 8, of 16-bit colours by 1."""
    paths = sorted(folder.iterdir())
    side = int(side)
    crates = np.fromfile(levels, np.uint8).reshape(len(paths), 3, side, side)
    wrong = []
    for path, theirs in zip(paths, crates):
        apart = np.abs(prepare(path, side=side).astype(int) - theirs.astype(int))
        if apart.max() > {".jpg": 3 if side <= 32 else 8}.get(path.suffix, 1 if path.stem.startswith("deep") else 0):
            wrong.append(path.name)
        print(f"{path.name}: {np.count_nonzero(apart)} of {apart.size} levels differ, by {apart.max()} at most")
    sys.exit(f"not what the crate reads: {' '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    verb, folder, *rest = sys.argv[1:]
    {"write": write, "compare": compare}[verb](Path(folder), *rest)
