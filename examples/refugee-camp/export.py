"""Writes the trained detector as TorchScript and as ONNX, and checks that all three files say the same.

    python3 export.py

Reads `refugee-camp-detector.pth`, writes `.pt` and `.onnx` beside it. Needs torch; the check of the ONNX file also
needs onnxruntime and is skipped, with a message, where that is not installed. Start at `main`.
"""

from pathlib import Path

import numpy as np
import torch

from model import TILE_PX, UNet, normalise
from scenes import make_scene

HERE = Path(__file__).parent
STEM = HERE / "refugee-camp-detector"
# Opset 13 and its IR version 7 are read by every ONNX Runtime since 2020, the ones inside ArcGIS Pro included.
OPSET = 13
# Different kernels add in different orders; more than this would be a different model.
TOLERANCE = 1e-4


def main():
    model = UNet()
    model.load_state_dict(torch.load(STEM.with_suffix(".pth"), map_location="cpu"))
    model.eval()
    image, _ = make_scene(seed=2_000_001, height_px=TILE_PX, width_px=3 * TILE_PX)
    tiles = normalise(np.stack(np.split(image, 3, axis=1)))

    with torch.no_grad():
        save_torchscript(torch.jit.trace(model, tiles[:1]), STEM.with_suffix(".pt"))
        torch.onnx.export(
            model, tiles[:1], STEM.with_suffix(".onnx"), opset_version=OPSET,
            input_names=["input"], output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})
        expected = model(tiles).numpy()
        compare("TorchScript", torch.jit.load(STEM.with_suffix(".pt"))(tiles).numpy(), expected)
    try:
        import onnxruntime
    except ImportError:
        print("onnxruntime is not installed: the ONNX file was not checked")
        return
    session = onnxruntime.InferenceSession(STEM.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    compare("ONNX", session.run(["output"], {"input": tiles.numpy()})[0], expected)
    # One tile alone must give what it gave in a batch of three: the batch dimension is really free.
    compare("ONNX, batch of 1", session.run(["output"], {"input": tiles[1:2].numpy()})[0], expected[1:2])


def save_torchscript(traced, path):
    """Saves the trace without its debug records, which would carry the paths of the source files on this machine."""
    full = path.with_suffix(".pt.full")
    traced.save(str(full))
    reader, writer = torch._C.PyTorchFileReader(str(full)), torch._C.PyTorchFileWriter(str(path))
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name != "version":  # the writer adds its own version record
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    full.unlink()


def compare(name, probability, expected):
    difference = float(np.abs(probability - expected).max())
    print(f"{name}: largest difference from the PyTorch model {difference:.1e}, shape {probability.shape}")
    if probability.shape != expected.shape or difference > TOLERANCE:
        raise SystemExit(f"{name} does not agree with the PyTorch model")


if __name__ == "__main__":
    main()
