"""A pixel classifier for ArcGIS on ONNX Runtime, which comes with ArcGIS Pro. Made by Tidegate (`tidegate package esri`).

ArcGIS loads the class that is called like this file. Everything it must know stands in the .emd beside it.
"""

import json
import os

import numpy as np


def require_runtime():
    """Fails where the user still sees why."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "ONNX Runtime is missing: it comes with ArcGIS Pro's deep learning libraries, or by `conda install onnxruntime`"
        ) from error


def load_model(path, device):
    """A function from a batch to the model's first output."""
    import onnxruntime

    providers = []
    if device != -1:
        available = onnxruntime.get_available_providers()
        for name in ("CUDAExecutionProvider", "DmlExecutionProvider"):
            if name in available:
                providers.append((name, {"device_id": max(device, 0)}))
    session = onnxruntime.InferenceSession(path, providers=providers + ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


