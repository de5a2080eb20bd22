"""Loads what a run has trained into PyTorch, and asks it about a picture.

    pip install torch safetensors numpy pillow
    python examples/pytorch.py runs/study/baseline/weights.safetensors picture.png airplane automobile bird …

The names of the classes may be left out: then their numbers are printed.
"""

import sys

import torch
from safetensors.torch import load_file
from torch import nn


class Supervised(nn.Module):
    """The network of the stages `supervised` and `finetune`."""

    def __init__(self, channels, hidden, classes):
        super().__init__()
        layers, inputs = [], 3
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = outputs
        self.backbone = nn.Sequential(*layers)
        self.fc = nn.Linear(channels[-1] * 4 * 4, hidden)
        self.classification_head = nn.Linear(hidden, classes)

    def forward(self, images):
        """Logits [n, classes] of images [n, 3, 32, 32] with values from -1 to 1."""
        features = self.backbone(images).flatten(1)
        return self.classification_head(torch.relu(self.fc(features)))


def load(path):
    """The network that the file is of, ready to predict."""
    arrays = load_file(path)
    if "classification_head.weight" not in arrays:
        sys.exit(f"{path}: these are the weights of another network; take a stage `supervised` or `finetune`")
    channels = [arrays[f"backbone.{index}.weight"].shape[0] for index in (0, 4, 8)]
    classes, hidden = arrays["classification_head.weight"].shape
    model = Supervised(channels, hidden, classes)
    # Batch norm's counter of batches is no part of the files.
    missing = model.load_state_dict(arrays, strict=False)
    assert not missing.unexpected_keys and all(k.endswith("num_batches_tracked") for k in missing.missing_keys), missing
    return model.eval()


def main():
    import numpy as np
    from PIL import Image

    weights, picture, *names = sys.argv[1:]
    model = load(weights)
    pixels = np.array(Image.open(picture).convert("RGB").resize((32, 32)))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        shares = model(image).softmax(1)[0]
    names = names or [f"class {index}" for index in range(len(shares))]
    for share, name in sorted(zip(shares.tolist(), names), reverse=True)[:3]:
        print(f"{share:6.1%}  {name}")


if __name__ == "__main__":
    main()
