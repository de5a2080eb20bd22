"""Opens a weights file as a user of PyTorch would: python check_weights.py WEIGHTS CHANNELS HIDDEN

The names, shapes and types are checked; with torch installed, `examples/pytorch.py` then loads the file, and the network's
output on a fixed input is printed.
"""

import sys
from pathlib import Path

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

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from pytorch import load  # noqa: E402: it needs torch

model = load(path)
with torch.no_grad():
    x = torch.arange(3 * 32 * 32, dtype=torch.float32).reshape(1, 3, 32, 32) / 1536 - 1
    print("logits", *model(x)[0].tolist())
