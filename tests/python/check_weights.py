"""Opens a weights file as a user of PyTorch would: python check_weights.py WEIGHTS CHANNELS HIDDEN

With torch installed the supervised network of the study is built from plain torch modules and loads the file with
`load_state_dict` (strict); then its output on a fixed input is printed. With only safetensors and numpy the names,
shapes and types are checked.
"""

import sys

import numpy as np
from safetensors.numpy import load_file

path, channels, hidden = sys.argv[1], [int(c) for c in sys.argv[2].split(",")], int(sys.argv[3])
arrays = load_file(path)
features = channels[2] * 16
expected = {"fc.weight": (hidden, features), "fc.bias": (hidden,)}
expected |= {"classification_head.weight": (10, hidden), "classification_head.bias": (10,)}
inputs = 3
for index, outputs in zip((0, 4, 8), channels):
    expected[f"backbone.{index}.weight"] = (outputs, inputs, 3, 3)
    expected[f"backbone.{index}.bias"] = (outputs,)
    for name in ("weight", "bias", "running_mean", "running_var"):
        expected[f"backbone.{index + 1}.{name}"] = (outputs,)
    inputs = outputs
assert {name: a.shape for name, a in arrays.items()} == expected
assert all(a.dtype == np.float32 for a in arrays.values())

try:
    import torch
except ImportError:
    print("names and shapes are right; torch is not installed")
    sys.exit()


class Supervised(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for outputs in channels:
            conv = torch.nn.Conv2d(inputs, outputs, 3, padding=1)
            layers += [conv, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
            inputs = outputs
        self.backbone = torch.nn.Sequential(*layers)
        self.fc = torch.nn.Linear(features, hidden)
        self.classification_head = torch.nn.Linear(hidden, 10)

    def forward(self, x):
        return self.classification_head(torch.relu(self.fc(self.backbone(x).flatten(1))))


model = Supervised().eval()
model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()}, strict=True)
with torch.no_grad():
    x = torch.arange(3 * 32 * 32, dtype=torch.float32).reshape(1, 3, 32, 32) / 1536 - 1
    print("logits", *model(x)[0].tolist())
