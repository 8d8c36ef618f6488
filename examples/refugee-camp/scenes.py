"""Seeded generator of aerial scenes with refugee shelters, and the mask that says where the shelters are.

    python3 scenes.py --seed 7 --out preview.png            # one scene beside its mask
    python3 scenes.py --seed 7 --grid 4 --out preview.png   # sixteen scenes, seeds 7 to 22

Start at `make_scene`. Everything random comes from one generator made from the seed, so a seed is a scene (other
versions of numpy and Pillow may round a few per cent of the pixels to the next level). Needs numpy and Pillow. Lengths
are metres unless a name ends in `_px`.
"""

import argparse
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

import objects
from painting import Layer, Sun, fractal_noise, gaussian_blur, place
from terrain import make_ground, trample

GSD_M = 0.25  # ground size of a pixel


def make_scene(seed, height_px=512, width_px=512):
    """Returns (image [H, W, 3] uint8 RGB, mask [H, W] uint8 with 1 on shelters and 0 elsewhere)."""
    rng = np.random.default_rng(seed)
    sun = Sun(azimuth_rad=rng.uniform(0, 2 * np.pi), elevation_rad=np.deg2rad(rng.uniform(32, 68)))
    ground = make_ground(rng, height_px, width_px, GSD_M, sun)
    site = Site(height_px, width_px, ground.taken.copy())
    low, high = Layer(height_px, width_px, GSD_M), Layer(height_px, width_px, GSD_M)

    if rng.random() < 0.45:
        _village(rng, low, sun, site)
    homes = []
    if rng.random() < 0.88:  # the rest of the scenes hold no shelter at all
        homes = _camp(rng, low, sun, site, ground.bare)
    trample(rng, ground, low.averaged("shelter"), homes, GSD_M)
    _scatter(rng, low, sun, site, ground)
    _plant(rng, high, sun, site, ground.lush)

    shadow_tint = np.array([0.40, 0.44, 0.52]) * rng.uniform(0.8, 1.2)  # lit by the sky only, hence bluish
    grain = 1 + 0.02 * fractal_noise(rng, height_px, width_px, 4, 2, 0.9)
    grain += 0.025 * fractal_noise(rng, height_px, width_px, 14, 2)
    image = low.over(ground.rgb, shadow_tint, grain)
    image = high.over(image, shadow_tint, grain)
    visible = low.averaged("shelter") * (1 - high.averaged("alpha"))
    return _sense(rng, image), (visible > 0.5).astype(np.uint8)


@dataclass
class Site:
    """Where something stands already. `taken` is [H, W] bool."""

    height_px: int
    width_px: int
    taken: np.ndarray

    @property
    def size_m(self):
        """(width, height) of the scene."""
        return self.width_px * GSD_M, self.height_px * GSD_M

    def claim(self, x, y, length, width, angle, gap=0.6):
        """True, and the place is taken, when a rectangle with `gap` metres around it is still free."""
        u, v = length / 2 + gap, width / 2 + gap
        corners = place([(-u, -v), (u, -v), (u, v), (-u, v)], x, y, angle) / GSD_M
        left, top = np.floor(corners.min(0)).astype(int)
        right, bottom = np.ceil(corners.max(0)).astype(int) + 1
        if right <= 0 or bottom <= 0 or left >= self.width_px or top >= self.height_px:
            return False
        footprint = Image.new("1", (int(right - left), int(bottom - top)))
        ImageDraw.Draw(footprint).polygon([(float(a - left), float(b - top)) for a, b in corners], fill=1)
        rows = slice(max(0, top), min(self.height_px, bottom))
        cols = slice(max(0, left), min(self.width_px, right))
        part = np.asarray(footprint)[rows.start - top:rows.stop - top, cols.start - left:cols.stop - left]
        if (self.taken[rows, cols] & part).any():
            return False
        self.taken[rows, cols] |= part
        return True

    def free_at(self, x, y):
        row, col = int(y / GSD_M), int(x / GSD_M)
        return 0 <= row < self.height_px and 0 <= col < self.width_px and not self.taken[row, col]


def _camp(rng, layer, sun, site, soil):
    """Rows of tents, loose clusters, or both, inside one or a few irregular areas. Returns where they stand."""
    width, height = site.size_m
    area = fractal_noise(rng, site.height_px, site.width_px, 60 / GSD_M, 4)
    limit = rng.choice([-0.9, -0.3, 0.3, 0.8])  # how much of the scene the camp fills
    main_kind = rng.choice(["tent", "tent", "tarp", "tarp", "unit"])
    main_fabric = rng.choice(["white", "white", "white", "tan", "blue", "grey"])
    purity, dust = rng.uniform(0.55, 1.0), rng.uniform(0.02, 0.32)
    heading = rng.uniform(0, np.pi)
    spots = _rows(rng, width, height, heading) if rng.random() < 0.55 else _clusters(rng, site, heading)
    homes = []
    for x, y, angle in spots:
        row, col = int(np.clip(y / GSD_M, 0, site.height_px - 1)), int(np.clip(x / GSD_M, 0, site.width_px - 1))
        if area[row, col] < limit:
            continue
        own = rng.random() > purity
        kind = rng.choice(["tent", "tarp", "unit"], p=[0.2, 0.7, 0.1]) if own else main_kind
        fabric = rng.choice(list(objects.FABRICS), p=[0.35, 0.2, 0.2, 0.15, 0.1]) if own else main_fabric
        if site.claim(x, y, 7.0 if kind == "tent" else 6.2, 4.2 if kind == "tent" else 3.6, angle, gap=0.3):
            objects.shelter(rng, layer, sun, x, y, angle, kind, fabric, dust, soil)
            objects.clutter(rng, layer, sun, x, y, soil)
            homes.append((x, y))
            if rng.random() < 0.06:
                lx, ly = place([(0, rng.choice([-1, 1]) * 4.2)], x, y, angle)[0]
                if site.claim(lx, ly, 1.5, 1.5, angle, gap=0.1):
                    objects.latrine(rng, layer, sun, lx, ly, angle)
    return homes


def _rows(rng, width, height, heading):
    """A planned camp: parallel rows with streets between blocks, each shelter a little off its place."""
    pitch, row_gap = rng.uniform(7.4, 10), rng.uniform(5.0, 8.5)
    block, street = rng.integers(4, 10), rng.uniform(2, 8)
    jitter, twist, dropout = rng.uniform(0.1, 0.7), np.deg2rad(rng.uniform(1, 6)), rng.uniform(0.02, 0.25)
    across = rng.random() < 0.3  # long sides face the street
    if across:
        pitch, row_gap = row_gap, pitch
    reach = 0.75 * float(np.hypot(width, height))
    n_u, n_v = int(2 * reach / pitch), int(2 * reach / row_gap)
    for i in range(n_v):
        for j in range(n_u):
            u = -reach + j * pitch + (j // block) * street + rng.normal(0, jitter)
            v = -reach + i * row_gap + (i // 3) * street * 0.7 + rng.normal(0, jitter)
            x, y = place([(u, v)], width / 2, height / 2, heading)[0]
            if rng.random() > dropout and -3 < x < width + 3 and -3 < y < height + 3:
                yield x, y, heading + rng.normal(0, twist) + (np.pi / 2 if across else 0)


def _clusters(rng, site, heading):
    """A camp that grew by itself: random places, headings that change slowly over the ground."""
    width, height = site.size_m
    turn = fractal_noise(rng, site.height_px, site.width_px, 40 / GSD_M, 2)
    loose, n = np.deg2rad(rng.uniform(5, 35)), int(width * height / rng.uniform(10, 90))
    for x, y in rng.uniform((-2, -2), (width + 2, height + 2), (n, 2)):
        row, col = int(np.clip(y / GSD_M, 0, site.height_px - 1)), int(np.clip(x / GSD_M, 0, site.width_px - 1))
        angle = heading + 0.6 * turn[row, col] + rng.normal(0, loose) + rng.choice([0, np.pi / 2])
        yield x, y, angle


def _village(rng, layer, sun, site):
    """A few permanent buildings that share a heading, some round huts, and sometimes a fence."""
    width, height = site.size_m
    centre, heading = rng.uniform((0, 0), (width, height)), rng.uniform(0, np.pi)
    for _ in range(rng.integers(2, 12)):
        x, y = centre + rng.normal(0, 22, 2)
        angle = heading + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.04)
        length, depth = rng.uniform(9, 24), rng.uniform(6, 11)
        if site.claim(x, y, length, depth, angle, gap=2.0):
            objects.building(rng, layer, sun, x, y, angle, length, depth)
    for _ in range(rng.integers(0, 8)):
        x, y = centre + rng.normal(0, 28, 2)
        if site.claim(x, y, 6.5, 6.5, 0):
            objects.hut(rng, layer, sun, x, y)
    if rng.random() < 0.5:
        x, y, radius = *(centre + rng.normal(0, 30, 2)), rng.uniform(6, 14)
        if site.claim(x, y, 2 * radius, 2 * radius, 0):
            objects.fence(rng, layer, sun, x, y, radius)


def _scatter(rng, layer, sun, site, ground):
    """Vehicles, on the roads and off them, and rocks."""
    width, height = site.size_m
    for road in ground.roads:
        for i in rng.integers(1, len(road) - 1, rng.poisson(1.2)):
            x, y = road[i] + rng.normal(0, 0.8, 2)
            ahead = road[i + 1] - road[i - 1]
            objects.vehicle(rng, layer, sun, x, y, np.arctan2(ahead[1], ahead[0]) + rng.choice([0, np.pi]))
    for x, y in rng.uniform((0, 0), (width, height), (rng.poisson(1.5), 2)):
        angle = rng.uniform(0, 2 * np.pi)
        if site.claim(x, y, 5, 2, angle):
            objects.vehicle(rng, layer, sun, x, y, angle)
    n_rocks = rng.choice([0, 20, 80, 200])
    for x, y in rng.uniform((0, 0), (width, height), (n_rocks, 2)):
        if site.free_at(x, y):
            objects.rock(rng, layer, sun, x, y, 0.25 + rng.exponential(0.35), ground.bare)


def _plant(rng, layer, sun, site, lush):
    """Trees and shrubs, denser where the ground is lush; they may overhang what stands there."""
    width, height = site.size_m
    dryness, density = rng.uniform(0, 0.9), rng.choice([0.001, 0.004, 0.012, 0.03])  # plants per square metre
    crowns = rng.uniform(1.6, 4.2)
    for x, y in rng.uniform((0, 0), (width, height), (int(density * width * height), 2)):
        row, col = min(int(y / GSD_M), site.height_px - 1), min(int(x / GSD_M), site.width_px - 1)
        if site.free_at(x, y) and lush[row, col] > rng.normal(0.2, 0.6):
            radius = crowns * rng.uniform(0.6, 1.3) if rng.random() < 0.3 else rng.uniform(0.3, 1.1)
            objects.tree(rng, layer, sun, x, y, radius, np.clip(dryness + 0.15 * rng.standard_normal(), 0, 1))


def _sense(rng, image):
    """The camera: haze, light, colour cast, lens blur, noise, and usually JPEG. Returns uint8."""
    height_px, width_px = image.shape[:2]
    image = gaussian_blur(image.astype(np.float32), rng.uniform(0.35, 0.95))
    falloff = 1 + 0.03 * fractal_noise(rng, height_px, width_px, max(height_px, width_px), 1)
    warmth, tint = rng.normal(0, 0.03), rng.normal(0, 0.012)
    cast = np.array([1 + warmth, 1 + tint, 1 - warmth])
    exposure = rng.uniform(0.46, 0.62) / np.median(image)  # the camera meters on the ground
    image = image * falloff[..., None] * cast * np.clip(exposure, 0.8, 1.35)
    haze = rng.uniform(0, 0.12)
    image = image * (1 - haze) + haze * np.array([0.68, 0.71, 0.75])
    # A film curve: contrast in the middle, and whites that roll off instead of clipping hard.
    image = np.clip(image, 0, 1.6)
    contrast = rng.uniform(1.0, 1.35)
    image = np.where(image < 0.5, 0.5 * (2 * image) ** contrast, 1 - 0.5 * np.exp(-2 * contrast * (image - 0.5)))
    noise = rng.uniform(0.004, 0.018) * np.sqrt(0.3 + image)
    image = image + noise * rng.standard_normal(image.shape)
    pixels = (255 * np.clip(image, 0, 1)).round().astype(np.uint8)
    if rng.random() < 0.7:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(80, 97)))
        pixels = np.asarray(Image.open(buffer).convert("RGB"))
    return pixels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--grid", type=int, default=0, help="draw GRID x GRID scenes without masks")
    parser.add_argument("--out", required=True, help="PNG to write")
    args = parser.parse_args()
    if args.grid:
        pictures = [make_scene(args.seed + i, *args.size)[0] for i in range(args.grid**2)]
        rows = [np.hstack(pictures[i:i + args.grid]) for i in range(0, args.grid**2, args.grid)]
        picture = np.vstack(rows)
    else:
        image, mask = make_scene(args.seed, *args.size)
        picture = np.hstack([image, np.repeat(255 * mask[..., None], 3, 2)])
        print(f"shelters cover {100 * mask.mean():.1f} % of {mask.size * GSD_M**2 / 1e4:.2f} hectares")
    Image.fromarray(picture).save(args.out)


if __name__ == "__main__":
    main()
