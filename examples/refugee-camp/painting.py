"""Drawing tools for the scene generator: noise, blur, the sun, and a supersampled layer for objects.

Lengths are metres unless a name ends in `_px`. x runs right (east) and y runs down (south), from the top left
corner of the scene. Colours are display RGB in 0..1. Start reading at `Layer` and `draw_solid`.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

# Objects are drawn this many times finer than the scene and averaged down, so that edges are mixed pixels.
SUPERSAMPLE = 4


@dataclass(frozen=True)
class Sun:
    """One sun for a whole scene. `azimuth_rad` is the image direction towards the sun, clockwise from +x."""

    azimuth_rad: float
    elevation_rad: float

    @property
    def direction(self):
        """Unit vector (x, y, z) towards the sun, z up."""
        flat = np.cos(self.elevation_rad)
        east, south = flat * np.cos(self.azimuth_rad), flat * np.sin(self.azimuth_rad)
        return np.array([east, south, np.sin(self.elevation_rad)])

    @property
    def shadow(self):
        """Ground displacement (x, y) of the shadow of a point one metre high, in metres."""
        return -self.direction[:2] / self.direction[2]

    def shade(self, normal):
        """Brightness of a surface relative to flat ground: direct light plus sky light."""
        direct = max(0.0, float(np.dot(normal, self.direction))) / self.direction[2]
        sky = 0.5 + 0.5 * normal[2]
        return 0.68 * min(direct, 1.7) + 0.32 * sky


class Layer:
    """Objects that hide the ground, with the shadow that they throw on it, drawn at SUPERSAMPLE times the scene."""

    def __init__(self, height_px, width_px, gsd_m):
        size = (width_px * SUPERSAMPLE, height_px * SUPERSAMPLE)
        self.scale = SUPERSAMPLE / gsd_m  # drawing pixels per metre
        self._images = {"colour": Image.new("RGB", size), "alpha": Image.new("L", size),
                        "shadow": Image.new("L", size), "shelter": Image.new("L", size)}
        self._draw = {name: ImageDraw.Draw(image) for name, image in self._images.items()}

    def polygon(self, points, colour, shelter=False):
        """Fills a polygon of (x, y) metres. Pixels under it count as shelter, or stop counting, as `shelter` says."""
        points = [(float(x) * self.scale, float(y) * self.scale) for x, y in points]
        self._draw["colour"].polygon(points, fill=_to_bytes(colour))
        self._draw["alpha"].polygon(points, fill=255)
        self._draw["shelter"].polygon(points, fill=255 if shelter else 0)

    def line(self, points, colour, width_m):
        """Draws a line on top of an object that is already there; it adds no coverage of its own."""
        points = [(float(x) * self.scale, float(y) * self.scale) for x, y in points]
        self._draw["colour"].line(points, fill=_to_bytes(colour), width=max(1, round(width_m * self.scale)))

    def disc(self, x, y, radius_m, colour):
        box = [(x - radius_m) * self.scale, (y - radius_m) * self.scale,
               (x + radius_m) * self.scale, (y + radius_m) * self.scale]
        self._draw["colour"].ellipse(box, fill=_to_bytes(colour))
        self._draw["alpha"].ellipse(box, fill=255)
        self._draw["shelter"].ellipse(box, fill=0)

    def shadow_polygon(self, points):
        self._draw["shadow"].polygon([(float(x) * self.scale, float(y) * self.scale) for x, y in points], fill=255)

    def shadow_disc(self, x, y, radius_m):
        self._draw["shadow"].ellipse([(x - radius_m) * self.scale, (y - radius_m) * self.scale,
                                      (x + radius_m) * self.scale, (y + radius_m) * self.scale], fill=255)

    def averaged(self, name):
        """`colour` (premultiplied), `alpha`, `shadow` or `shelter` at scene resolution, floats in 0..1."""
        return np.asarray(self._images[name].reduce(SUPERSAMPLE), np.float32) / 255.0

    def over(self, ground, shadow_tint, grain):
        """Composites this layer over `ground` [H, W, 3]; `grain` [H, W] is a multiplicative surface texture."""
        shadow = gaussian_blur(self.averaged("shadow"), 0.6)[..., None]
        alpha = self.averaged("alpha")[..., None]
        shaded = ground * (1.0 - shadow * (1.0 - np.asarray(shadow_tint, np.float32)))
        return shaded * (1.0 - alpha) + self.averaged("colour") * grain[..., None]


def draw_solid(layer, sun, faces, colour, shelter=False, cast=True):
    """Draws a convex solid given the faces seen from above, each a list of (x, y, z) metres, and its cast shadow."""
    corners = np.array([corner for face in faces for corner in face], np.float64)
    if cast:
        fallen = corners[:, :2] + corners[:, 2:] * sun.shadow
        layer.shadow_polygon(convex_hull(np.vstack([fallen, corners[:, :2]])))
    for face in faces:
        brightness = sun.shade(_upward_normal(np.array(face, np.float64)))
        layer.polygon([corner[:2] for corner in face], np.asarray(colour) * brightness, shelter)


def place(points, x, y, angle_rad):
    """Turns local (u, v[, z]) points by `angle_rad` and moves them to (x, y)."""
    points = np.array(points, np.float64)
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    turned = points.copy()
    turned[:, 0] = x + points[:, 0] * cos - points[:, 1] * sin
    turned[:, 1] = y + points[:, 0] * sin + points[:, 1] * cos
    return turned


def convex_hull(points):
    """Andrew's monotone chain over (x, y) points."""
    points = sorted(map(tuple, points))

    def half(ordered):
        chain = []
        for point in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return half(points) + half(reversed(points))


def fractal_noise(rng, height_px, width_px, largest_px, n_octaves, persistence=0.55):
    """Smooth random field with zero mean and unit variance; features from `largest_px` down by halves."""
    field = np.zeros((height_px, width_px), np.float32)
    for octave in range(n_octaves):
        cell = max(1.0, largest_px / 2**octave)
        rows, cols = int(np.ceil(height_px / cell)) + 3, int(np.ceil(width_px / cell)) + 3
        grid = Image.fromarray(rng.standard_normal((rows, cols)).astype(np.float32))
        # A margin of one cell on each side, and a random offset in it, keep grid lines away from fixed places.
        left, top = rng.uniform(0.5, 1.5, 2)
        box = (left, top, left + width_px / cell, top + height_px / cell)
        field += persistence**octave * np.asarray(grid.resize((width_px, height_px), Image.BICUBIC, box))
    return (field - field.mean()) / (field.std() + 1e-6)


def gaussian_blur(image, sigma_px):
    """Separable Gaussian blur of [H, W] or [H, W, C] with reflected borders."""
    if sigma_px <= 0:
        return image
    radius = max(1, int(np.ceil(3 * sigma_px)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        pad = [(0, 0)] * image.ndim
        pad[axis] = (radius, radius)
        padded = np.pad(image, pad, mode="symmetric")
        length = image.shape[axis]
        image = sum(tap * padded.take(range(k, k + length), axis) for k, tap in enumerate(taps))
    return image


def _turn(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _upward_normal(face):
    normal = np.cross(face[1] - face[0], face[2] - face[0])
    normal = normal / (np.linalg.norm(normal) + 1e-9)
    return normal if normal[2] >= 0 else -normal


def _to_bytes(colour):
    return tuple(int(round(255 * min(max(float(c), 0.0), 1.0))) for c in colour)
