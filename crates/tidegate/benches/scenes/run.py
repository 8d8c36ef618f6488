"""`tidegate predict SCENE` beside its Python peer: the same scene, model, threads and overlap, in turn, in one run.

Usage: run.py TIDEGATE SCENE.tif STAC_ITEM.json [--threads N] [--runs N]

Needs rasterio, rio-cogeo, numpy and onnxruntime (scripts/install-python-tools.sh). Prints the medians of wall and CPU seconds,
the peak of memory, and the share inside the runtime of the inference and of all time. The load of the machine comes with it: on
one that is busy only CPU seconds and memory mean anything.

Mask and polygons are CPU seconds, of both: Tidegate makes them beside the inference, on a thread whose wall time is mostly
waiting for cores; the peer's come after it, and its polygons have neither area nor mean probability. What comes after the
inference is in the rest, of both, as wall time.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("tidegate")
parser.add_argument("scene")
parser.add_argument("item", type=Path)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--runs", type=int, default=3)
args = parser.parse_args()

item = json.loads(args.item.read_text())
model = next(asset["href"] for asset in item["assets"].values() if asset["href"].endswith(".onnx"))


def measure(command, **options):
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, output
    wall = time.perf_counter() - started
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}, output


results = {"tidegate": [], "peer": []}
with tempfile.TemporaryDirectory() as scratch:
    for run in range(args.runs):
        folder = f"{scratch}/ours-{run}"
        command = [args.tidegate, "predict", args.scene, "--stac", str(args.item), "--output-dir", folder, "--threads", str(args.threads), "--no-overlay"]
        ours, output = measure(command, cwd=scratch)
        ours |= {name: float(value) for name, value in re.findall(r"([a-z]+) ([0-9.]+) s", output)}
        scale = float(re.search(r"at scale ([0-9.]+)", output).group(1))
        results["tidegate"].append(ours)

        peer = str(Path(__file__).with_name("peer.py"))
        command = [sys.executable, peer, args.scene, str(args.item.parent / model), f"{scratch}/peer-{run}", "--scale", str(scale), "--threads", str(args.threads)]
        theirs, output = measure(command)
        said = json.loads(output.splitlines()[-1])
        theirs |= {"inference": said["inference_seconds"], "runtime": said["runtime_seconds"], "polygons": said["polygon_seconds"], "mask": said["cog_seconds"]}
        results["peer"].append(theirs)

for measured in results["tidegate"] + results["peer"]:
    # Starting, and what is left to do when the last tile is done.
    measured["rest"] = measured["wall"] - measured["inference"]
    measured["share"] = measured["runtime"] / args.threads / measured["inference"]
    measured["of_wall"] = measured["runtime"] / args.threads / measured["wall"]

names = ["wall", "cpu", "peak_mb", "inference", "rest", "share", "of_wall", "mask", "polygons"]
load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
print(f"{args.scene}, {args.threads} threads, median of {args.runs}, load {load}")
print("".join(f"{name:>12}" for name in [""] + names))
for who, runs in results.items():
    print(f"{who:>12}" + "".join(f"{statistics.median(run[name] for run in runs):12.2f}" for name in names))
