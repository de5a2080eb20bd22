"""The peer: PyTorch, torchvision and Pillow doing what `cargo bench --bench throughput` does.

Prints a JSON line per benchmark, with the same ids: the median over repetitions, in images per second (an image of a
method on views is two views), for the product in floating-point operations per second. Networks and losses are those of
`golden/parity/make_parity.py` at full width, and those of methods after SimSiam lightly's.

Steps and evaluation run on random images in memory, already scaled. Augmentations cost what one fetch from
torchvision's CIFAR10 costs before scaling: the data set holds numpy arrays [32, 32, 3], a fetch makes a Pillow image of
one, and the transforms make another of that; no ToTensor. One process, no DataLoader.

With --compile the network and its loss are one `torch.compile`d function; the optimizer's step is as without.

    python pytorch.py [--compile] [--device cuda] [--threads N] [--seconds S] [ID ...]
    python pytorch.py --versions
"""

import argparse
import copy
import json
import platform
import random
import statistics
import time

import lightly
import numpy
import PIL
import torch
import torch.nn.functional as F
import torchvision
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from lightly.models.utils import update_momentum
from PIL import Image, ImageOps
from torch import nn
from torchvision import transforms


def backbone():
    layers, inputs = [], 3
    for outputs in (32, 64, 128):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten())


class Classifier(nn.Module):
    """The supervised and the pretext network: one hidden layer, linear heads."""

    def __init__(self, heads):
        super().__init__()
        self.backbone, self.fc, self.dropout = backbone(), nn.Linear(2048, 512), nn.Dropout(0.5)
        self.heads = nn.ModuleList(nn.Linear(512, classes) for classes in heads)

    def forward(self, x):
        hidden = self.dropout(F.relu(self.fc(self.backbone(x))))
        return [head(hidden) for head in self.heads]


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = backbone()
        linear = lambda: [nn.Linear(2048, 2048), nn.BatchNorm1d(2048)]
        self.projector = nn.Sequential(*linear(), nn.ReLU(), *linear(), nn.ReLU(), *linear())
        self.predictor = nn.Sequential(nn.Linear(2048, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 2048))

    def forward(self, view1, view2):
        z1, z2 = self.projector(self.backbone(view1)), self.projector(self.backbone(view2))
        p1, p2 = self.predictor(z1), self.predictor(z2)
        distance = lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1, eps=1e-6).mean()
        return distance(p1, z2) / 2 + distance(p2, z1) / 2


class BasicBlock(nn.Module):
    """He et al. 2016, with a 1×1 convolution where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        conv = lambda inputs, kernel, stride: nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.body = nn.Sequential(conv(inputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU(),
                                  conv(outputs, 3, 1), nn.BatchNorm2d(outputs))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential() if same else nn.Sequential(conv(inputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def normed(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def classifier(*layers, features):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 10))


def by_sgd(model, compiled):
    x, y = images(128), torch.randint(0, 10, (128,))
    rule = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    return training(model, rule, lambda: F.cross_entropy(model(x), y), compiled)


def resnet8(compiled):
    blocks = [BasicBlock(16, 16, 1), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2)]
    return by_sgd(classifier(*normed(3, 16), *blocks, features=64), compiled)


def plain(compiled):
    layers = [layer for widths in ((3, 64), (64, 128), (128, 256)) for layer in (*normed(*widths), nn.MaxPool2d(2))]
    return by_sgd(classifier(*layers, features=256), compiled)


def images(n):
    return torch.rand(n, 3, 32, 32) * 2 - 1


def training(model, optimizer, loss, compiled):
    """One step as a function; `loss()` is what it minimises."""
    model.train()
    run = torch.compile(loss) if compiled else loss

    def step():
        optimizer.zero_grad()
        run().backward()
        optimizer.step()

    return step


def supervised(compiled):
    model, x, y = Classifier([10]), images(128), torch.randint(0, 10, (128,))
    loss = lambda: F.cross_entropy(model(x)[0], y)
    return training(model, torch.optim.Adam(model.parameters(), 1e-3), loss, compiled)


def pretext(compiled):
    model, x = Classifier([4, 3, 3]), images(64)
    labels = [torch.randint(0, classes, (64,)) for classes in (4, 3, 3)]
    loss = lambda: sum(F.cross_entropy(logits, y) for logits, y in zip(model(x), labels))
    return training(model, torch.optim.Adam(model.parameters(), 1e-3), loss, compiled)


def simsiam(compiled):
    model, views = SimSiam(), [images(64), images(64)]
    rule = torch.optim.SGD(model.parameters(), 0.0125, momentum=0.9, weight_decay=5e-4)
    return training(model, rule, lambda: model(*views), compiled)


class Views(nn.Module):
    """A loss of the outputs of both views, each view a batch of its own for batch norm unless they go `together`."""

    def __init__(self, projector, criterion, together=False):
        super().__init__()
        self.backbone, self.projector, self.criterion, self.together = backbone(), projector, criterion, together

    def forward(self, view1, view2):
        project = lambda x: self.projector(self.backbone(x))
        z1, z2 = project(torch.cat([view1, view2])).chunk(2) if self.together else (project(view1), project(view2))
        return self.criterion(z1, z2)


class BYOL(nn.Module):
    """The online network and its target."""

    def __init__(self):
        super().__init__()
        mlp = lambda inputs: nn.Sequential(
            nn.Linear(inputs, 2048), nn.BatchNorm1d(2048), nn.ReLU(), nn.Linear(2048, 256)
        )
        self.online, self.predictor = nn.Sequential(backbone(), mlp(2048)), mlp(256)
        self.target, self.criterion = copy.deepcopy(self.online).requires_grad_(False), NegativeCosineSimilarity()

    def forward(self, view1, view2):
        p1, p2 = (self.predictor(self.online(view)) for view in (view1, view2))
        with torch.no_grad():
            z1, z2 = self.target(view1), self.target(view2)
        return (self.criterion(p1, z2) + self.criterion(p2, z1)) / 2


def on_views(model, compiled):
    views = [images(128), images(128)]
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return training(model, torch.optim.SGD(moved, 0.06, momentum=0.9, weight_decay=5e-4), lambda: model(*views), compiled)


def simclr(compiled):
    projector = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 128))
    return on_views(Views(projector, NTXentLoss(temperature=0.5), together=True), compiled)


def byol(compiled):
    model = BYOL()
    step = on_views(model, compiled)

    def step_and_follow():
        step()
        update_momentum(model.online, model.target, m=0.99)

    return step_and_follow


def expander():
    hidden = lambda: [nn.Linear(2048, 2048), nn.BatchNorm1d(2048), nn.ReLU()]
    return nn.Sequential(*hidden(), *hidden(), nn.Linear(2048, 2048))


def barlow_twins(compiled):
    return on_views(Views(expander(), BarlowTwinsLoss(lambda_param=5e-3)), compiled)


def vicreg(compiled):
    return on_views(Views(expander(), VICRegLoss()), compiled)


def fixmatch(compiled):
    """64 labelled and 192 other images: the weak views in eval mode, labelled and strong ones in one pass; an average of all weights."""
    model, labels = Classifier([10]), torch.randint(10, (64,))
    weak, both = images(192), images(256)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.03, momentum=0.9, weight_decay=5e-4, nesterov=True)
    with torch.no_grad():
        model(both)  # running statistics

    def forward():
        model.eval()
        with torch.no_grad():
            probability, pseudo = model(weak)[0].softmax(1).max(1)
        model.train()
        logits = model(both)[0]
        of_strong = F.cross_entropy(logits[64:], pseudo, reduction="none")
        return F.cross_entropy(logits[:64], labels) + (of_strong * (probability >= 0)).mean()

    run = torch.compile(forward) if compiled else forward

    def step():
        optimizer.zero_grad()
        run().backward()
        optimizer.step()
        floats = [[value for value in net.state_dict().values() if value.is_floating_point()] for net in (average, model)]
        torch._foreach_lerp_(*floats, 0.001)

    return step


def evaluation(compiled):
    model, x = Classifier([10]).eval(), images(128)
    run = torch.compile(model) if compiled else model

    def forward():
        with torch.inference_mode():
            run(x)

    return forward


def fetches(transform, n=64):
    """Fetches each of n images once."""
    data = numpy.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=numpy.uint8)
    return lambda: [transform(Image.fromarray(array)) for array in data]


def simsiam_view(_):
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    return fetches(transforms.Compose([
        transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([jitter], p=0.8),
        transforms.RandomGrayscale(p=0.2),
    ]))


def pretext_image(_):
    """The operations of `golden/parity/make_parity.py`."""

    def transform(image):
        image = image.rotate(90 * random.randrange(4))
        shear = (0.0, 0.2, 0.4)[random.randrange(3)]
        if shear > 0:
            image = image.transform(image.size, Image.AFFINE, (1, shear, 0, 0, 1, 0))
        color = random.randrange(3)
        if color == 1:
            return ImageOps.grayscale(image).convert("RGB")
        return ImageOps.invert(image) if color == 2 else image

    return fetches(transform)


def gemm(_):
    a, b, out = torch.rand(2048, 2048), torch.rand(2048, 2048), torch.empty(2048, 2048)
    return lambda: torch.mm(a, b, out=out)


# id: (what makes the function that is timed, units that one call does)
BENCHMARKS = {
    "train_step/supervised_b128": (supervised, 128),
    "train_step/pretext_b64": (pretext, 64),
    "train_step/simsiam_b64": (simsiam, 64),
    "train_step/simclr_b128": (simclr, 128),
    "train_step/byol_b128": (byol, 128),
    "train_step/barlow_twins_b128": (barlow_twins, 128),
    "train_step/vicreg_b128": (vicreg, 128),
    "train_step/fixmatch_b64": (fixmatch, 256),
    "train_step/resnet8_b128": (resnet8, 128),
    "train_step/plain_b128": (plain, 128),
    "eval/supervised_b128": (evaluation, 128),
    "augment/simsiam_view": (simsiam_view, 64),
    "augment/pretext": (pretext_image, 64),
    # Multiply-adds count twice: FLOP per second.
    "gemm/2048": (gemm, 2 * 2048**3),
}


def median_seconds(function, seconds):
    """Median time of a call and the number of calls, after a warm-up of a third of the time and three calls."""

    def calls(seconds, at_least):
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < at_least:
            start = time.perf_counter()
            function()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return times

    calls(seconds / 3, 3)
    times = calls(seconds, 10)
    return statistics.median(times), len(times)


def versions():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightly": lightly.__version__,
        "pillow": PIL.__version__,
        "numpy": numpy.__version__,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks and losses")
    parser.add_argument("--device", default="cpu", help="where networks and their images are [default: cpu]")
    parser.add_argument("--threads", type=int, help="threads of PyTorch [default: its own choice]")
    parser.add_argument("--seconds", type=float, default=5.0, help="time spent on each benchmark")
    parser.add_argument("--versions", action="store_true", help="print the versions of what is measured, as JSON")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"of {', '.join(BENCHMARKS)} [default: all]")
    arguments = parser.parse_args()
    if unknown := set(arguments.ids) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if arguments.versions:
        print(json.dumps(versions()))
        return
    torch.set_default_device(arguments.device)
    torch.manual_seed(0)
    random.seed(0)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for id in arguments.ids or BENCHMARKS:
        make, units = BENCHMARKS[id]
        median, n = median_seconds(make(arguments.compile), arguments.seconds)
        print(json.dumps({"id": id, "per_second": units / median, "units": units, "n": n}), flush=True)


if __name__ == "__main__":
    main()
