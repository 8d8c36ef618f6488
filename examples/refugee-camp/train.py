"""Trains the shelter detector on generated scenes and measures it on scenes that it has not seen.

    python3 train.py --steps 40 --train-scenes 16 --test-scenes 4 --out smoke-run   # does everything run?
    python3 train.py                                                                 # the real thing

Writes `refugee-camp-detector.pth` (state dict) and `training.json` (what was done, what was measured). `export.py`
makes the other formats from them. Runs on one CPU thread; the same seed gives the same weights on the same machine.
Start at `main`.
"""

import argparse
import json
import math
import random
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model import TILE_PX, UNet, n_parameters, normalise
from scenes import GSD_M, make_scene

SCENE_PX = 512
# Seeds of the two sets are far apart, so no scene is in both however many are asked for.
FIRST_TRAIN_SEED, FIRST_TEST_SEED = 0, 1_000_000
THRESHOLD = 0.5


def main():
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    started, started_cpu = time.time(), time.process_time()

    images, masks = load_scenes(args.cache, FIRST_TRAIN_SEED, args.train_scenes)
    test_images, test_masks = load_scenes(args.cache, FIRST_TEST_SEED, args.test_scenes)
    print(f"{len(images)} training and {len(test_images)} test scenes; {100 * masks.mean():.1f} % shelter pixels")

    model = UNet()
    print(f"{n_parameters(model)} parameters")
    training_cpu_s = train(model, images, masks, args)
    model.to(memory_format=torch.contiguous_format)  # the plain layout is the one that other readers expect
    scores = evaluate(model, test_images, test_masks)
    print(f"IoU {scores['iou']:.4f}, precision {scores['precision']:.4f}, recall {scores['recall']:.4f}"
          f" on {len(test_images)} unseen scenes")

    facts = {
        "trained_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": args.seed, "steps": args.steps, "batch_size": args.batch_size, "optimizer": "AdamW",
        "learning_rate": args.learning_rate, "weight_decay": args.weight_decay, "schedule": "cosine with warm-up",
        "loss": "binary cross-entropy + Dice", "total_parameters": n_parameters(model),
        "gsd_m": GSD_M, "tile_px": TILE_PX,
        "training_scenes": args.train_scenes, "test_scenes": args.test_scenes, "scene_px": SCENE_PX,
        "first_test_seed": FIRST_TEST_SEED, "threshold": THRESHOLD,
        "validation_iou": round(scores["iou"], 4), "validation_precision": round(scores["precision"], 4),
        "validation_recall": round(scores["recall"], 4), "training_cpu_minutes": round(training_cpu_s / 60, 1),
        "total_cpu_minutes": round((time.process_time() - started_cpu) / 60, 1),
        "total_wall_minutes": round((time.time() - started) / 60, 1), "torch": torch.__version__,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), args.out / "refugee-camp-detector.pth")
    (args.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--train-scenes", type=int, default=240)
    parser.add_argument("--test-scenes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "refugee-camp-scenes",
                        help="folder that keeps the drawn scenes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    return parser.parse_args()


def load_scenes(cache, first_seed, n_scenes):
    """(images [n, H, W, 3] uint8, masks [n, H, W] uint8), drawn once and kept in `cache`. Clear it after a change."""
    cache.mkdir(parents=True, exist_ok=True)
    images, masks = [], []
    for seed in range(first_seed, first_seed + n_scenes):
        file = cache / f"{seed}.npz"
        if not file.exists():
            image, mask = make_scene(seed, SCENE_PX, SCENE_PX)
            np.savez(file, image=image, mask=mask)
        with np.load(file) as scene:
            images.append(scene["image"])
            masks.append(scene["mask"])
    return np.stack(images), np.stack(masks)


def train(model, images, masks, args):
    """Fits the model in place and returns the CPU seconds that took."""
    started_cpu = time.process_time()
    rng = np.random.default_rng(args.seed)
    model.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_factor(step, args.steps))
    recent = []
    for step in range(1, args.steps + 1):
        pixels, truth = random_tiles(rng, images, masks, args.batch_size)
        probability = model(normalise(pixels).contiguous(memory_format=torch.channels_last))
        loss = segmentation_loss(probability, torch.from_numpy(truth)[:, None].float())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        recent.append(loss.item())
        if step % 25 == 0 or step == args.steps:
            cpu_s = time.process_time() - started_cpu
            pace = f"{cpu_s / step:.2f} CPU s per step"
            print(f"step {step:5d}/{args.steps}  loss {np.mean(recent):.4f}  {pace}", flush=True)
            recent.clear()
    return time.process_time() - started_cpu


def learning_rate_factor(step, n_steps, n_warmup=30):
    """Linear warm-up, then half a cosine down to zero."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))


def random_tiles(rng, images, masks, n):
    """Random crops, mirrored and turned by quarter turns: pixels [n, 256, 256, 3] and truth [n, 256, 256]."""
    pixels, truth = [], []
    for scene in rng.integers(len(images), size=n):
        top, left = rng.integers(0, SCENE_PX - TILE_PX + 1, 2)
        window = slice(top, top + TILE_PX), slice(left, left + TILE_PX)
        turns, mirror = rng.integers(4), rng.integers(2)
        for source, tiles in ((images, pixels), (masks, truth)):
            tile = np.rot90(source[scene][window], turns)
            tiles.append(tile[::-1] if mirror else tile)
    return np.stack(pixels), np.stack(truth)


def segmentation_loss(probability, truth):
    """Cross-entropy finds the pixels, Dice (over the batch, so that empty tiles do no harm) balances the classes."""
    cross_entropy = nn.functional.binary_cross_entropy(probability, truth)
    dice = (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    return cross_entropy + 1 - dice


def evaluate(model, images, masks):
    """IoU, precision and recall over all pixels of all scenes together, from tiles without overlap."""
    model.eval()
    hit = predicted = actual = 0
    with torch.no_grad():
        for image, mask in zip(images, masks):
            found = predict_scene(model, image) > THRESHOLD
            hit += int((found & (mask == 1)).sum())
            predicted += int(found.sum())
            actual += int(mask.sum())
    return {"iou": hit / max(1, predicted + actual - hit), "precision": hit / max(1, predicted),
            "recall": hit / max(1, actual)}


def predict_scene(model, image):
    """Probabilities [H, W] of a scene [H, W, 3] whose sides are multiples of the tile size."""
    height_px, width_px = image.shape[:2]
    result = np.zeros((height_px, width_px), np.float32)
    for top in range(0, height_px, TILE_PX):
        for left in range(0, width_px, TILE_PX):
            window = slice(top, top + TILE_PX), slice(left, left + TILE_PX)
            result[window] = model(normalise(image[window][None]))[0, 0].detach().numpy()
    return result


if __name__ == "__main__":
    main()
