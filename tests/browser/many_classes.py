"""Writes a folder of images in 24 classes, four training and two test images each.

    python3 many_classes.py FOLDER
"""

import struct
import sys
import zlib
from pathlib import Path

NAMES = ["cat", "automobile with a long name", "猫", "ねこ", "고양이", "قطة", "חתול", "बिल्ली", "แมว", "кот", "γάτα", "🦊"]


def png(pixels):
    """32 rows of 32 RGB pixels."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(sum(row, [])) for row in pixels)
    header = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main():
    for part, n in [("train", 4), ("test", 2)]:
        for index, name in enumerate(NAMES + [f"{name} 2" for name in NAMES]):
            folder = Path(sys.argv[1]) / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                corner = i + 10 * (part == "test")
                pixels = [[[x * 7, y * (i + 2) % 256, index * 10 if x + y else corner] for x in range(32)] for y in range(32)]
                (folder / f"{i}.png").write_bytes(png(pixels))


main()
