"""Loads what a run has trained into PyTorch, and asks it about a picture.

    pip install torch safetensors numpy pillow
    python examples/pytorch.py runs/seed/baseline/weights.safetensors picture.png
"""

import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class Supervised(nn.Module):
    """The network of the stages `supervised` and `finetune`, with the study's widths."""

    def __init__(self, channels=(32, 64, 128), hidden=512, classes=10):
        super().__init__()
        layers, inputs = [], 3
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = outputs
        self.backbone = nn.Sequential(*layers)
        self.fc = nn.Linear(channels[-1] * 4 * 4, hidden)
        self.classification_head = nn.Linear(hidden, classes)

    def forward(self, images):
        features = self.backbone(images).flatten(1)
        return self.classification_head(torch.relu(self.fc(features)))


def main():
    weights, picture = sys.argv[1:]
    model = Supervised()
    # Batch norm's counter of batches is no part of the files.
    missing = model.load_state_dict(load_file(weights), strict=False)
    assert not missing.unexpected_keys and all(k.endswith("num_batches_tracked") for k in missing.missing_keys), missing
    model.eval()
    pixels = np.array(Image.open(picture).convert("RGB").resize((32, 32)))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        shares = model(image).softmax(1)[0]
    for share, name in sorted(zip(shares.tolist(), CLASSES), reverse=True)[:3]:
        print(f"{share:6.1%}  {name}")


main()
