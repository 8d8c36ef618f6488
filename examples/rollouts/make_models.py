#!/usr/bin/env python3
"""Writes the versions of `loan-default` that `tidegate demo rollouts` delivers, into this folder.

They are committed; run this only to change one. It needs the `onnx` and `numpy` packages:

    python3 -m venv /tmp/rollouts && /tmp/rollouts/bin/pip install onnx numpy
    /tmp/rollouts/bin/python examples/rollouts/make_models.py

Each is a logistic regression over four numbers. What really happens follows TRUTH (crates/tidegate/src/cli/demo/load.rs
knows it too), so how often a version is right is known: 1.0.0 has it roughly, 1.1.0 nearly, 1.2.0-bad backwards.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

TRUTH = np.array([1.5, -2.0, 1.0, -0.5], dtype=np.float32)

VERSIONS = {
    "1.0.0": np.array([1.0, -1.0, 0.0, -1.0], dtype=np.float32),
    "1.1.0": np.array([1.5, -1.8, 0.9, -0.5], dtype=np.float32),
    "1.2.0-bad": -TRUTH,
}


def logistic(weights):
    """A model: `features` [N,4] to `label` [N] (0 or 1) and `probability` [N,1]."""
    initializers = [
        numpy_helper.from_array(weights.reshape(4, 1), "weights"),
        numpy_helper.from_array(np.array([0.5], dtype=np.float32), "half"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["probability"]),
        helper.make_node("Greater", ["probability", "half"], ["is_likely"]),
        helper.make_node("Cast", ["is_likely"], ["column"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["column", "flat"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loan_default",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 1]),
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="tidegate-examples")
    model.ir_version = 8
    checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def main():
    rng = np.random.default_rng(7)
    features = rng.uniform(-1, 1, (100_000, 4)).astype(np.float32)
    happened = features @ TRUTH > 0
    for version, weights in VERSIONS.items():
        (Path(__file__).parent / f"loan-default-{version}.onnx").write_bytes(logistic(weights))
        print(f"{version}: right about {((features @ weights > 0) == happened).mean():.1%}")


if __name__ == "__main__":
    main()
