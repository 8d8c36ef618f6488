"""The ground of a scene: soil, relief, dry grass, a dry river bed, roads and foot paths.

Start at `make_ground`. Masks are [H, W] floats in 0..1 at scene resolution; lengths are metres, colours RGB in 0..1.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from painting import fractal_noise, gaussian_blur

# (bare soil, darker soil, dry grass), as they look from the air in full sun.
PALETTES = [
    ((0.74, 0.65, 0.52), (0.63, 0.53, 0.41), (0.52, 0.48, 0.35)),  # pale sand
    ((0.66, 0.47, 0.35), (0.55, 0.38, 0.28), (0.46, 0.42, 0.28)),  # laterite
    ((0.63, 0.59, 0.53), (0.52, 0.48, 0.43), (0.45, 0.44, 0.34)),  # grey plain
    ((0.69, 0.57, 0.42), (0.58, 0.46, 0.33), (0.49, 0.45, 0.31)),  # ochre
    ((0.60, 0.52, 0.40), (0.50, 0.42, 0.32), (0.39, 0.41, 0.26)),  # savanna after rain
]


@dataclass
class Ground:
    """What later steps need to know about the ground."""

    rgb: np.ndarray  # [H, W, 3]
    bare: np.ndarray  # (3,) colour of trampled soil
    taken: np.ndarray  # [H, W] bool: road or river, where nobody builds
    lush: np.ndarray  # [H, W] how well trees grow, about zero mean and unit variance
    roads: list  # polylines [n, 2] in metres, for vehicles


def make_ground(rng, height_px, width_px, gsd_m, sun):
    """Draws the natural ground and the roads."""
    bare, dark, grass = (np.array(c, np.float32) for c in PALETTES[rng.integers(len(PALETTES))])
    tone = rng.uniform(0.86, 1.08) * (1 + 0.03 * rng.standard_normal(3)).astype(np.float32)
    bare, dark, grass = bare * tone, dark * tone, grass * tone

    def noise(largest_m, n_octaves, persistence=0.55):
        return fractal_noise(rng, height_px, width_px, largest_m / gsd_m, n_octaves, persistence)

    soil = _smoothstep(0.5 * noise(60, 7) + 0.25 * noise(4, 4, 0.8), -1.1, 1.1)[..., None]
    rgb = bare * (1 - soil) + dark * soil

    lush = noise(50, 4)
    cover = rng.uniform(-0.9, 0.9)  # how much of the scene carries grass
    tussocks = _smoothstep(0.9 * noise(45, 5) + 0.6 * noise(2.5, 3, 0.8) + cover - 0.6, -0.2, 1.3)
    rgb = _mix(rgb, grass, 0.75 * tussocks)

    relief_m = rng.uniform(0.3, 1.2) * noise(40, 6, 0.48) + 0.03 * noise(2, 3, 0.8)
    taken = np.zeros((height_px, width_px), bool)
    if rng.random() < 0.35:
        river = _river(rng, height_px, width_px, gsd_m)
        bed = np.array(bare * 1.08 + 0.03) * (1 + 0.05 * noise(10, 5, 0.7)[..., None])
        rgb = _mix(rgb, bed, 0.85 * river)
        relief_m = relief_m - 1.6 * gaussian_blur(river, 1.0 / gsd_m)
        lush = lush + 2.0 * gaussian_blur(river, 6.0 / gsd_m) - 2.5 * river
        taken |= river > 0.3

    roads = []
    for _ in range(rng.choice([0, 1, 1, 2, 2, 3])):
        road = crossing_curve(rng, height_px * gsd_m, width_px * gsd_m, wander=rng.uniform(0.004, 0.03))
        width = rng.uniform(2.6, 6.5)
        rgb, relief_m = _paint_road(rng, rgb, relief_m, road, width, gsd_m, bare, noise)
        taken |= stroke(taken.shape, road, width + 3.0, gsd_m) > 0.3
        roads.append(road)
    for _ in range(rng.integers(0, 7)):
        path = crossing_curve(rng, height_px * gsd_m, width_px * gsd_m, wander=rng.uniform(0.01, 0.05))
        worn = gaussian_blur(stroke(taken.shape, path, rng.uniform(0.4, 0.9), gsd_m), 0.7)
        rgb = _mix(rgb, bare * 1.06, rng.uniform(0.3, 0.7) * worn)

    rgb = rgb * _hillshade(relief_m, gsd_m, sun)[..., None]
    grain = 0.022 * noise(0.5, 1) + 0.02 * noise(1.2, 2, 0.9)
    return Ground(rgb * (1 + grain[..., None]), bare, taken, lush, roads)


def trample(rng, ground, footprints, homes, gsd_m):
    """Wears the ground around shelters, and paths between neighbours.

    `footprints` [H, W] is 1 where a shelter stands, `homes` are the (x, y) of the shelters.
    """
    homes = np.array(homes).reshape(-1, 2)
    for i in rng.permutation(len(homes))[:len(homes) // 2]:
        far = np.linalg.norm(homes - homes[i], axis=1)
        near = homes[rng.choice(np.argsort(far)[:9])]
        path = homes[i] + np.linspace(0, 1, 8)[:, None] * (near - homes[i]) + rng.normal(0, 0.25, (8, 2))
        _wear_path(rng, ground, path, gsd_m)
    worn = np.clip(2.2 * gaussian_blur(footprints, 3.0 / gsd_m), 0, 1)
    patchy = 0.75 + 0.25 * fractal_noise(rng, *footprints.shape, 12 / gsd_m, 5, 0.7)
    close = np.clip(1.6 * gaussian_blur(footprints, 0.8 / gsd_m), 0, 1)
    rgb = _mix(ground.rgb, ground.bare * 1.05, np.clip(0.6 * worn * patchy, 0, 0.85))
    ground.rgb = rgb * (1 - 0.10 * close[..., None])
    ground.lush = ground.lush - 1.5 * worn


def _wear_path(rng, ground, path, gsd_m):
    """A foot path half a metre wide, drawn only in the box that holds it."""
    height_px, width_px = ground.taken.shape
    left, top = np.maximum(np.floor(path.min(0) / gsd_m).astype(int) - 4, 0)
    right, bottom = np.minimum(np.ceil(path.max(0) / gsd_m).astype(int) + 5, (width_px, height_px))
    if right - left < 2 or bottom - top < 2:
        return
    box = slice(top, bottom), slice(left, right)
    origin = np.array([left, top]) * gsd_m
    worn = gaussian_blur(stroke((bottom - top, right - left), path - origin, 0.6, gsd_m), 0.8)
    ground.rgb[box] = _mix(ground.rgb[box], ground.bare * 1.07, rng.uniform(0.2, 0.6) * worn)


def crossing_curve(rng, height_m, width_m, wander):
    """A smooth curve [n, 2] from one side of the scene to the opposite one; `wander` is relative to its length."""
    t = np.linspace(0, 1, 300)
    length = float(np.hypot(height_m, width_m)) * 2.4
    waves = (rng.normal(0, wander / k**1.5) * np.sin(3 * np.pi * k * (t + rng.random())) for k in (1, 2, 3, 5, 8))
    bend = sum(waves) * length
    along = (t - 0.5) * length
    turn = rng.uniform(0, np.pi)
    centre = np.array([width_m, height_m]) * rng.uniform(0.15, 0.85, 2)
    cos, sin = np.cos(turn), np.sin(turn)
    return centre + np.stack([along * cos - bend * sin, along * sin + bend * cos], 1)


def stroke(shape, points, width_m, gsd_m):
    """Coverage [H, W] in 0..1 of a line of the given width through (x, y) points in metres."""
    fine = 4
    image = Image.new("L", (shape[1] * fine, shape[0] * fine))
    pixels = [(float(x) * fine / gsd_m, float(y) * fine / gsd_m) for x, y in points]
    ImageDraw.Draw(image).line(pixels, fill=255, width=max(1, round(width_m * fine / gsd_m)), joint="curve")
    return np.asarray(image.reduce(fine), np.float32) / 255.0


def _paint_road(rng, rgb, relief_m, road, width_m, gsd_m, bare, noise):
    """A dirt road: a pale strip with soft, ragged shoulders, two wheel tracks and a low bank."""
    shape = relief_m.shape
    ragged = 0.5 + 0.18 * noise(6, 4, 0.7)
    strip = gaussian_blur(stroke(shape, road, width_m, gsd_m), 0.5 / gsd_m)
    strip = _smoothstep(strip, ragged - 0.3, ragged + 0.3)
    colour = bare * rng.uniform(0.98, 1.14) + rng.uniform(0.0, 0.04)
    rgb = _mix(rgb, colour * (1 + 0.04 * noise(8, 5, 0.7)[..., None]), 0.85 * strip)
    normal = np.gradient(road, axis=0)[:, ::-1] * [-1, 1]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    for side in (-0.85, 0.85):
        wheel = gaussian_blur(stroke(shape, road + side * normal, 0.45, gsd_m), 0.6)
        rgb = _mix(rgb, colour * 1.07, 0.5 * wheel)
    rgb = _mix(rgb, colour * 0.88, 0.35 * gaussian_blur(stroke(shape, road, 0.7, gsd_m), 0.8))
    return rgb, relief_m - 0.25 * strip


def _river(rng, height_px, width_px, gsd_m):
    """A braided dry river bed as coverage [H, W]."""
    middle = crossing_curve(rng, height_px * gsd_m, width_px * gsd_m, wander=0.025)
    bed = np.zeros((height_px, width_px), np.float32)
    for _ in range(rng.integers(1, 4)):
        phase = rng.uniform(0, 2 * np.pi, 2)
        t = np.linspace(0, 1, len(middle))
        aside = np.stack([np.sin(9 * t + phase[0]), np.cos(7 * t + phase[1])], 1) * rng.uniform(0, 5)
        bed = np.maximum(bed, stroke(bed.shape, middle + aside, rng.uniform(3, 9), gsd_m))
    ragged = fractal_noise(rng, height_px, width_px, 8 / gsd_m, 4, 0.7)
    return _smoothstep(gaussian_blur(bed, 1.0 / gsd_m) + 0.12 * ragged, 0.3, 0.7)


def _hillshade(relief_m, gsd_m, sun):
    """Brightness [H, W] of a relief relative to flat ground."""
    slope_y, slope_x = np.gradient(relief_m, gsd_m)
    to_sun = sun.direction
    lit = 1 - (slope_x * to_sun[0] + slope_y * to_sun[1]) / to_sun[2]
    return np.clip(0.3 + 0.7 * lit, 0.55, 1.35).astype(np.float32)


def _mix(base, colour, weight):
    weight = weight[..., None]
    return base * (1 - weight) + colour * weight


def _smoothstep(value, low, high):
    t = np.clip((value - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)
