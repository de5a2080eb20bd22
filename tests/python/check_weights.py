"""Computes with a weights file in NumPy and, where torch is installed, by `examples/pytorch.py`; both must agree.

    python check_weights.py WEIGHTS IMAGES

IMAGES holds float32 [n, 3, 32, 32]. Prints the names of the classes as JSON, and for each image a line of logits, or of
features where the network has no trained classifier.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

path, images = sys.argv[1], np.fromfile(sys.argv[2], np.float32).reshape(-1, 3, 32, 32)
with safe_open(path, "np") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
    names = json.loads(file.metadata()["classes"])
assert all(tensor.dtype == np.float32 for tensor in tensors.values())


def backbone(x):
    for index in (0, 4, 8):
        weight, bias = (tensors[f"backbone.{index}.{name}"] for name in ("weight", "bias"))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]), (3, 3), (2, 3))
        x = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True) + bias[:, None, None]
        norm = [tensors[f"backbone.{index + 1}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")]
        weight, bias, mean, var = (values[:, None, None] for values in norm)
        x = np.maximum((x - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)
        n, channels, side, _ = x.shape
        x = x.reshape(n, channels, side // 2, 2, side // 2, 2).max((3, 5))
    return x.reshape(len(x), -1)


def linear(x, name):
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
outputs = backbone(images.astype(np.float64))
if "classifier.weight" in tensors:
    outputs = linear(outputs, "classifier")
elif "classifier.0.weight" in tensors:
    outputs = linear(np.maximum(linear(outputs, "classifier.0"), 0), "classifier.2")
elif "fc.weight" in tensors and "rotation_head.weight" not in tensors:
    outputs = linear(np.maximum(linear(outputs, "fc"), 0), "classification_head")

try:
    import torch
except ImportError:
    print("torch is not installed: examples/pytorch.py was not tried", file=sys.stderr)
else:
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    from pytorch import load

    network, their_names = load(path)
    with torch.no_grad():
        theirs = (network if network.classifies else network.features)(torch.from_numpy(images)).numpy()
    assert their_names == names and network.kind
    assert np.abs(theirs - outputs).max() < 1e-4 * np.abs(outputs).max(), "examples/pytorch.py computes something else"

print(json.dumps(names))
for row in outputs:
    print(*row)
