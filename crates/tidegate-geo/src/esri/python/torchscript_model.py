"""A pixel classifier for ArcGIS on PyTorch, which comes with its deep learning libraries. Made by Tidegate (`tidegate package esri`).

ArcGIS loads the class that is called like this file. Everything it must know stands in the .emd beside it.
"""

import json
import os

import numpy as np


def require_runtime():
    """Fails where the user still sees why."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError("PyTorch is missing: install the deep learning libraries for ArcGIS") from error


def load_model(path, device):
    """A function from a batch to the model's first output."""
    import torch

    place = "cuda:{}".format(max(device, 0)) if device != -1 and torch.cuda.is_available() else "cpu"
    module = torch.jit.load(path, map_location=place)
    module.eval()

    def run(batch):
        with torch.no_grad():
            output = module(torch.from_numpy(batch).to(place))
        if isinstance(output, dict):
            output = list(output.values())
        if isinstance(output, (list, tuple)):
            output = output[0]
        return output.cpu().numpy()

    return run


