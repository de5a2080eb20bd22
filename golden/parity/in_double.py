#!/usr/bin/env python3
"""The fixtures of make_parity.py with every network computed in double precision, from the same single-precision start.

    python in_double.py OUT_DIR SEED [SEED ...]

Arrays are rounded to single precision when they are written. What an engine misses here is its own rounding, where a
fixture of make_parity.py has PyTorch's too.
"""
import torch
from safetensors.torch import save_file
from torch import nn

import make_parity


def in_double(layer):
    init = layer.__init__

    def start(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.double()

    layer.__init__ = start


def rounded(name, array):
    # Learning rates are doubles in a fixture.
    return array.float() if array.dtype == torch.float64 and name != "rates" else array


if __name__ == "__main__":
    for layer in (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.BatchNorm1d):
        in_double(layer)
    single = make_parity.to_input
    make_parity.to_input = lambda u8: single(u8).double()
    make_parity.save_file = lambda arrays, path, meta: save_file(
        {name: rounded(name, array) for name, array in arrays.items()}, path, meta
    )
    make_parity.main()
