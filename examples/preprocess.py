"""Reads a picture as fewlabel reads the images of a folder: side × side pixels of red, green and blue.

The picture is turned upright as its EXIF data say, composited over a background where it is transparent, cut to the square in
its middle, and resized with a triangle filter as wide as the scale ("bilinear" with antialiasing). The arithmetic is
fewlabel's, sum by sum, so the levels are equal, but for what decoders round: JPEG's differ by up to 3 levels at 32 × 32, and of
16-bit colours Pillow keeps the upper 8 bits where fewlabel rounds.
"""

import numpy as np
from PIL import Image, ImageOps

SIDE = 32
WHITE = (255, 255, 255)


def prepare(path, background=WHITE, side=SIDE):
    """The picture's levels, uint8 [3, side, side]; `background` and `side` must be the experiment's."""
    with Image.open(path) as image:
        pixels = opaque(ImageOps.exif_transpose(image), background)
    height, width = pixels.shape[:2]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    square = pixels[top : top + least, left : left + least].astype(np.float32)
    # Rows first, then columns: [y, x, c] to [x, y, c] to [c, y, x].
    small = resize(resize(square, side).swapaxes(0, 1), side).transpose(2, 1, 0)
    return np.floor(small.clip(0, 255).astype(np.float64) + 0.5).astype(np.uint8)


def to_input(levels):
    """Levels as network input, float32 from -1 to 1."""
    return (levels.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)


def opaque(image, background):
    """Levels [height, width, 3] of a Pillow image of any mode, over the background."""
    if image.mode.startswith("I"):
        gray = (np.asarray(image).astype(np.int64) + 128) // 257
        return np.repeat(gray[..., None], 3, axis=2)
    pixels = np.asarray(image.convert("RGBA")).astype(np.int64)
    color, alpha = pixels[..., :3], pixels[..., 3:]
    return (color * alpha + np.array(background) * (255 - alpha) + 127) // 255


def resize(pixels, side):
    """float32 [n, …] to [side, …]: along the first axis, each value a mean weighted by a triangle."""
    length = len(pixels)
    ratio = np.float32(length) / np.float32(side)
    scale = max(ratio, np.float32(1))
    out = np.zeros((side, *pixels.shape[1:]), np.float32)
    for at in range(side):
        center = (np.float32(at) + np.float32(0.5)) * ratio
        first = min(max(int(np.floor(center - scale)), 0), length - 1)
        end = min(max(int(np.ceil(center + scale)), first + 1), length)
        distances = np.abs((np.arange(first, end, dtype=np.float32) - (center - np.float32(0.5))) / scale)
        weights = np.maximum(1 - distances, np.float32(0))
        # NumPy's `sum` adds in pairs, `cumsum` one after the other.
        weights /= weights.cumsum(dtype=np.float32)[-1]
        for weight, row in zip(weights, pixels[first:end]):
            out[at] += weight * row
    return out
