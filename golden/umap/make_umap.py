"""What umap-learn makes of the features of CIFAR-10 test images: the fixture of tests/umap.rs.

    pip install torch safetensors scikit-learn umap-learn
    python make_umap.py runs/study/simsiam/weights.safetensors data/cifar-10-binary.tar.gz OUT [IMAGES [FEATURES]]

Writes OUT/features.safetensors, the features of the first IMAGES (1,000) test images, every so many of the 2,048 that
FEATURES (256) are left, as float16; and OUT/umap_learn.json, how well umap-learn's maps of them keep neighbours, over
five seeds.
"""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
import umap
from safetensors.torch import load_file, save_file
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

K = 15


def backbone():
    layers, inputs = [], 3
    for outputs in (32, 64, 128):
        layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.BatchNorm2d(outputs), torch.nn.ReLU(),
                   torch.nn.MaxPool2d(2)]
        inputs = outputs
    return torch.nn.Sequential(*layers, torch.nn.Flatten())


def nearest(x, metric):
    return NearestNeighbors(n_neighbors=K, metric=metric).fit(x).kneighbors(return_distance=False)


def main():
    weights, archive, out = sys.argv[1:4]
    images, features = (int(n) for n in (sys.argv[4:] + ["1000", "256"][len(sys.argv) - 4:]))
    with tarfile.open(archive) as tar:
        raw = np.frombuffer(tar.extractfile("cifar-10-batches-bin/test_batch.bin").read(), np.uint8)
    pixels = torch.tensor(raw.reshape(-1, 3073)[:images, 1:].reshape(-1, 3, 32, 32) / 127.5 - 1, dtype=torch.float32)
    model = backbone().eval()
    of_backbone = {k.removeprefix("backbone."): v for k, v in load_file(weights).items() if k.startswith("backbone.")}
    model.load_state_dict(of_backbone, strict=False)
    with torch.no_grad():
        x = torch.cat([model(batch) for batch in pixels.split(500)])
    x = x[:, :: x.shape[1] // features].half().contiguous()
    Path(out).mkdir(parents=True, exist_ok=True)
    save_file({"features": x}, Path(out) / "features.safetensors")
    x = x.float().numpy()
    near = nearest(x, "cosine")
    kept = []
    for seed in range(5):
        y = umap.UMAP(metric="cosine", init="pca", random_state=seed).fit_transform(x)
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(near, nearest(y, "euclidean"))])
        kept.append((trustworthiness(x, y, n_neighbors=K, metric="cosine"), recall))
        print(seed, *kept[-1], flush=True)
    mean = np.mean(kept, axis=0)
    result = {"umap_learn": umap.__version__, "n_neighbors": K, "seeds": len(kept), "trustworthiness": mean[0],
              "recall": mean[1]}
    (Path(out) / "umap_learn.json").write_text(json.dumps(result, indent=2) + "\n")


main()
