"""Loads what a run has trained into PyTorch, and asks it about pictures.

    pip install torch safetensors numpy pillow
    python examples/pytorch.py runs/study/baseline/weights.safetensors picture.png …

Weights that classify (stages `supervised`, `finetune` and `probe`) give the three most likely classes of each picture;
all others give its features.
"""

import argparse
import json
import sys

try:
    import torch
    from PIL import Image, ImageColor
    from safetensors import SafetensorError, safe_open
    from torch import nn
except ImportError as error:
    sys.exit(f"{error}: pip install torch safetensors numpy pillow")

try:
    from preprocess import SIDE, prepare, to_input
except ImportError as error:
    sys.exit(f"{error}: examples/preprocess.py must lie beside this file")


class Network(nn.Module):
    """The network that the tensors of a weights file belong to, built from their names and shapes."""

    def __init__(self, tensors):
        super().__init__()
        shapes = {name: tensor.shape for name, tensor in tensors.items()}

        def linear(name):
            outputs, inputs = shapes[f"{name}.weight"]
            return nn.Linear(inputs, outputs)

        def norm(name):
            return nn.BatchNorm1d(*shapes[f"{name}.weight"])

        def sequential(block):
            """Linear layers with or without batch norm; ReLU has the numbers between them that have no tensors."""
            numbers = sorted({int(name.split(".")[1]) for name in shapes if name.startswith(f"{block}.")})
            layers = [nn.ReLU() for _ in range(numbers[-1] + 1)]
            for i in numbers:
                is_matrix = len(shapes[f"{block}.{i}.weight"]) == 2
                layers[i] = linear(f"{block}.{i}") if is_matrix else norm(f"{block}.{i}")
            return nn.Sequential(*layers)

        self.classifies = True
        layers = []
        for index in (0, 4, 8):
            outputs, inputs = shapes[f"backbone.{index}.weight"][:2]
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.backbone = nn.Sequential(*layers)
        if "projector.0.weight" in shapes:
            self.kind, self.classifies = "a backbone trained on two views, with what stands behind it", False
            for block in ("projector", "predictor"):
                if f"{block}.0.weight" in shapes:
                    setattr(self, block, sequential(block))
        elif "classifier.weight" in shapes:
            self.kind = "a linear probe on a frozen backbone"
            self.classifier = linear("classifier")
        elif "classifier.0.weight" in shapes:
            self.kind = "an MLP probe on a frozen backbone"
            self.classifier = nn.Sequential(linear("classifier.0"), nn.ReLU(), linear("classifier.2"))
        elif "fc.weight" in shapes:
            self.fc = linear("fc")
            self.classification_head = linear("classification_head")
            if "rotation_head.weight" in shapes:
                self.kind, self.classifies = "a backbone trained on pretext tasks, with their heads", False
                for head in ("rotation_head", "shear_head", "color_head"):
                    setattr(self, head, linear(head))
            else:
                self.kind = "a supervised network"
        else:
            self.kind, self.classifies = "a backbone", False

    def features(self, images):
        """Features [n, width] of images [n, 3, side, side] with values from -1 to 1."""
        return self.backbone(images).flatten(1)

    def forward(self, images):
        """Logits [n, classes] of such images; only of a network that classifies."""
        features = self.features(images)
        if hasattr(self, "classifier"):
            return self.classifier(features)
        return self.classification_head(torch.relu(self.fc(features)))


def load(path):
    """The network of a weights file, ready to predict, and the names of its classes, which old files do not have."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        names = json.loads((file.metadata() or {}).get("classes", "[]"))
    network = Network(tensors)
    # Batch norm's counter of batches is no part of the files.
    keys = network.load_state_dict(tensors, strict=False)
    unknown = keys.unexpected_keys + [name for name in keys.missing_keys if not name.endswith("num_batches_tracked")]
    if unknown:
        raise KeyError(unknown[0])
    return network.eval(), names


def main():
    parser = argparse.ArgumentParser(description="Asks what a fewlabel run has trained about pictures.")
    parser.add_argument("weights", help="a stage's weights.safetensors")
    parser.add_argument("pictures", nargs="+", metavar="picture", help="an image file")
    parser.add_argument(
        "--background", type=ImageColor.getrgb, default="white", help="the experiment's, behind transparent pixels [white]"
    )
    parser.add_argument("--side", type=int, default=SIDE, help="the experiment's, of its images in pixels [32]")
    arguments = parser.parse_args()
    try:
        network, names = load(arguments.weights)
    except OSError as error:
        sys.exit(f"{arguments.weights}: cannot be read ({error})")
    except (SafetensorError, KeyError, ValueError) as error:
        sys.exit(f"{arguments.weights}: not the weights of a fewlabel stage ({error})")
    print(f"{arguments.weights}: {network.kind}")
    for picture in arguments.pictures:
        try:
            image = torch.from_numpy(to_input(prepare(picture, arguments.background, arguments.side)))[None]
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            sys.exit(f"{picture}: not a picture that can be read ({error})")
        with torch.no_grad():
            describe(picture, network, names, image)


def describe(picture, network, names, image):
    if not network.classifies:
        values = network.features(image)[0]
        print(f"{picture}: {len(values)} features: {' '.join(f'{value:.3f}' for value in values[:8])} …")
        return
    shares = network(image).softmax(1)[0].tolist()
    names = names or [f"class {index}" for index in range(len(shares))]
    print(f"{picture}:")
    for share, name in sorted(zip(shares, names), reverse=True)[:3]:
        print(f"  {share:6.1%}  {name}")


if __name__ == "__main__":
    main()
