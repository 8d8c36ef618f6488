"""What stands on the ground: shelters, and the things that look a little like them but are not.

Every function draws one object into a `Layer` at (x, y) metres, turned by `angle` radians. Sizes are metres.
Only `shelter` marks its pixels as shelter; all the others are distractors.
"""

import numpy as np

from painting import draw_solid, place

# Clean fabric colours (RGB 0..1): relief-agency white first, because most shelters are white.
FABRICS = {
    "white": (0.86, 0.87, 0.86),
    "tan": (0.76, 0.68, 0.55),
    "blue": (0.42, 0.56, 0.70),
    "grey": (0.62, 0.63, 0.63),
    "green": (0.50, 0.54, 0.46),
}


def shelter(rng, layer, sun, x, y, angle, kind, fabric, dust, soil):
    """One shelter. `kind` is tent, tarp or unit; `dust` in 0..1 pulls the fabric towards the colour of the soil."""
    colour = np.array(FABRICS[fabric]) * rng.normal(1.0, 0.04) + 0.012 * rng.standard_normal(3)
    dust = np.clip(dust + 0.08 * rng.standard_normal(), 0, 0.6)
    colour = colour * (1 - dust) + np.asarray(soil) * 1.05 * dust
    length, width = shelter_size(rng, kind)
    if kind == "tent":  # a family tent with a rounded vestibule at both ends
        faces = _gable(length, width, eave=0.9, ridge=2.1, inset=rng.uniform(0.6, 1.2), taper=0.55)
    elif kind == "unit":  # a rigid housing unit with straight gables
        faces = _gable(length, width, eave=1.8, ridge=2.8)
    else:  # plastic sheeting over sticks: low, uneven, sometimes hipped
        faces = _gable(length, width, eave=rng.uniform(0.5, 1.1), ridge=rng.uniform(1.4, 2.0),
                       inset=rng.choice([0.0, rng.uniform(0.3, 1.0)]), taper=rng.uniform(0.8, 1.0))
        faces = _shake(rng, faces, 0.18)
    faces = [place(face, x, y, angle) for face in faces]
    draw_solid(layer, sun, faces, colour, shelter=True)
    _wear(rng, layer, x, y, angle, length, width, colour, kind)


def shelter_size(rng, kind):
    """(length, width) in metres."""
    if kind == "tent":
        return rng.uniform(5.6, 7.0), rng.uniform(3.6, 4.2)
    if kind == "unit":
        return rng.uniform(5.4, 5.9), rng.uniform(3.2, 3.5)
    return rng.uniform(3.2, 8.0), rng.uniform(2.8, 4.4)


def building(rng, layer, sun, x, y, angle, length, width):
    """A permanent building: corrugated metal gable, or a flat concrete roof with a parapet."""
    if rng.random() < 0.6:
        colour = np.array([(0.70, 0.71, 0.72), (0.58, 0.40, 0.32), (0.46, 0.54, 0.62), (0.60, 0.56, 0.50),
                           (0.52, 0.58, 0.50)][rng.integers(5)]) * rng.uniform(0.85, 1.1)
        faces = _gable(length, width, eave=3.0, ridge=3.0 + 0.18 * width, inset=rng.choice([0.0, 0.0, width / 2]))
        draw_solid(layer, sun, [place(face, x, y, angle) for face in faces], colour)
        for u in np.arange(-length / 2 + 0.4, length / 2, 0.8):  # sheet joints
            shade = colour * rng.uniform(0.80, 0.98)
            layer.line(place([(u, -width / 2), (u, width / 2)], x, y, angle), shade, 0.10)
        for _ in range(rng.poisson(length * width / 45)):  # rust and replaced sheets
            u, v = rng.uniform(-0.45, 0.35) * length, rng.choice([-0.47, 0.03]) * width
            sheet = [(u, v), (u + 0.8, v), (u + 0.8, v + 0.43 * width), (u, v + 0.43 * width)]
            layer.polygon(place(sheet, x, y, angle), colour * rng.uniform(0.7, 1.15) * [1, 0.95, 0.9])
    else:
        colour = np.array([0.66, 0.63, 0.58]) * rng.uniform(0.85, 1.15)
        outer = _slab(length, width, 3.2)
        draw_solid(layer, sun, [place(outer, x, y, angle)], colour * 1.12)
        layer.polygon(place(_slab(length - 0.7, width - 0.7, 3.2), x, y, angle)[:, :2], colour * 0.93)
        for _ in range(rng.integers(0, 4)):  # water tanks and stair heads
            u, v = rng.uniform(-0.35, 0.35) * length, rng.uniform(-0.35, 0.35) * width
            px, py, _ = place([(u, v, 0)], x, y, angle)[0]
            layer.disc(px + 0.4 * sun.shadow[0], py + 0.4 * sun.shadow[1], 0.7, colour * 0.5)
            layer.disc(px, py, 0.7, np.array([0.25, 0.26, 0.28]) if rng.random() < 0.5 else colour * 1.2)


def hut(rng, layer, sun, x, y):
    """A round hut with a thatched cone."""
    radius, n = rng.uniform(1.8, 3.2), 14
    rim = [(x + radius * np.cos(a), y + radius * np.sin(a), 1.5) for a in np.linspace(0, 2 * np.pi, n + 1)]
    faces = [[rim[i], rim[i + 1], (x, y, 1.5 + 0.9 * radius)] for i in range(n)]
    draw_solid(layer, sun, faces, np.array([0.50, 0.43, 0.33]) * rng.uniform(0.8, 1.15))


def vehicle(rng, layer, sun, x, y, angle):
    """A car, pickup or lorry; often white, so that brightness alone does not make a shelter."""
    lorry = rng.random() < 0.25
    length, width, height = (rng.uniform(6.5, 9), 2.4, 2.8) if lorry else (rng.uniform(4.2, 5.3), 1.85, 1.5)
    paint = np.array([(0.90, 0.90, 0.90), (0.88, 0.88, 0.87), (0.72, 0.70, 0.65), (0.25, 0.27, 0.30),
                      (0.55, 0.20, 0.17), (0.30, 0.38, 0.52)][rng.integers(6)])
    draw_solid(layer, sun, [place(_slab(length, width, height), x, y, angle)], paint)
    glass, cab = np.array([0.16, 0.18, 0.21]), length / 2 - (1.9 if lorry else 1.3)
    layer.line(place([(cab, -0.42 * width), (cab, 0.42 * width)], x, y, angle), glass, 0.55)
    if lorry or rng.random() < 0.45:  # an open bed behind the cab
        bed = place(_slab(length - 2.6 if lorry else 1.7, width - 0.35, 0), x, y, angle)[:, :2]
        shift = place([(-1.15 if lorry else -length / 2 + 1.0, 0)], 0, 0, angle)[0]
        layer.polygon(bed + shift, paint * rng.uniform(0.35, 0.8))
    else:
        rear = 0.5 - length / 2
        layer.line(place([(rear, -0.4 * width), (rear, 0.4 * width)], x, y, angle), glass, 0.4)


def latrine(rng, layer, sun, x, y, angle):
    """A cubicle of plastic sheeting, about 1.3 m wide: too small to be a shelter."""
    side = rng.uniform(1.1, 1.5)
    colour = np.array(FABRICS[rng.choice(["white", "blue", "grey"])]) * 0.95
    draw_solid(layer, sun, [place(_slab(side, side, 2.0), x, y, angle)], colour)


def clutter(rng, layer, sun, x, y, soil):
    """Belongings, jerrycans, washing and hearths around a shelter, each under a metre."""
    for _ in range(rng.poisson(2.5)):
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(3.2, 5.0)
        px, py, size = x + far * np.cos(turn), y + far * np.sin(turn), rng.uniform(0.12, 0.4)
        colours = [(0.25, 0.24, 0.23), (0.80, 0.72, 0.30), (0.80, 0.80, 0.78), (0.32, 0.42, 0.60), (0.60, 0.30, 0.25)]
        colour = 0.6 * np.array(colours[rng.integers(5)]) + 0.4 * np.asarray(soil)
        layer.shadow_disc(px + 0.4 * sun.shadow[0], py + 0.4 * sun.shadow[1], size)
        box = place(_slab(2 * size, size, 0), px, py, turn)[:, :2]
        layer.polygon(box, colour)


def rock(rng, layer, sun, x, y, radius, soil):
    """An angular boulder in the colour of the soil, greyer."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 8))
    rim = [(x + radius * rng.uniform(0.7, 1.1) * np.cos(a), y + radius * rng.uniform(0.7, 1.1) * np.sin(a),
            0.25 * radius) for a in angles]
    top = (x + rng.normal(0, 0.2) * radius, y + rng.normal(0, 0.2) * radius, rng.uniform(0.5, 1.0) * radius)
    colour = (0.6 * np.asarray(soil) + 0.4 * np.mean(soil)) * rng.uniform(0.75, 1.1)
    draw_solid(layer, sun, [[rim[i], rim[(i + 1) % 8], top] for i in range(8)], colour)


def tree(rng, layer, sun, x, y, radius, dryness):
    """A crown of many leaf clumps, brighter towards the sun, with a ragged shadow. `dryness` in 0..1."""
    green = np.array([0.26, 0.32, 0.17]) * (1 - dryness) + np.array([0.40, 0.36, 0.25]) * dryness
    green = green * rng.uniform(0.95, 1.3)
    height = radius * rng.uniform(1.2, 2.2) if radius > 1.2 else radius
    n = int(np.clip(26 * radius**1.5, 14, 260))
    # Clumps lie in a few lobes so that the outline is not a circle.
    lobes = rng.normal(0, 0.42 * radius, (max(3, int(3 + radius)), 2))
    at = lobes[rng.integers(len(lobes), size=n)] + rng.normal(0, 0.26 * radius, (n, 2))
    at *= np.minimum(1, radius / (np.linalg.norm(at, axis=1, keepdims=True) + 1e-6))
    size = rng.uniform(0.14, 0.30, n) * max(radius, 0.7) ** 0.75
    fallen = np.array([x, y]) + at + 0.75 * height * sun.shadow
    for (sx, sy), s in zip(fallen, size):
        layer.shadow_disc(sx, sy, s * 1.1)
    to_sun = sun.direction[:2] / np.linalg.norm(sun.direction[:2])
    lit = at @ to_sun / radius
    for i in np.argsort(lit + rng.normal(0, 0.35, n)):  # sunlit clumps last, on top
        layer.disc(x + at[i, 0], y + at[i, 1], size[i], green * (0.85 + 0.42 * lit[i] + 0.13 * rng.standard_normal()))


def fence(rng, layer, sun, x, y, radius):
    """A ring of thorn bushes around a yard or an animal pen, with a gap."""
    start = rng.uniform(0, 2 * np.pi)
    for a in np.arange(start, start + 5.7, 0.55 / radius):
        r = radius * (1 + 0.04 * np.sin(3 * a)) + rng.normal(0, 0.12)
        size = rng.uniform(0.25, 0.45)
        px, py = x + r * np.cos(a), y + r * np.sin(a)
        layer.shadow_disc(px + 0.8 * sun.shadow[0], py + 0.8 * sun.shadow[1], size)
        layer.disc(px, py, size, np.array([0.36, 0.32, 0.25]) * rng.uniform(0.75, 1.2))


def _gable(length, width, eave, ridge, inset=0.0, taper=1.0):
    """Roof faces of a ridged shelter along u. `inset` pulls the ridge ends in; `taper` narrows the two end walls."""
    u, v, r, w = length / 2, width / 2, length / 2 - inset, taper * width / 2
    faces = []
    for side in (-1, 1):
        faces.append([(-r, side * v, eave), (r, side * v, eave), (r, 0, ridge), (-r, 0, ridge)])
        if inset > 0:
            faces.append([(side * r, -v, eave), (side * u, -w, 0.8 * eave), (side * u, w, 0.8 * eave),
                          (side * r, v, eave), (side * r, 0, ridge)])
    return faces


def _slab(length, width, height):
    u, v = length / 2, width / 2
    return [(-u, -v, height), (u, -v, height), (u, v, height), (-u, v, height)]


def _shake(rng, faces, sigma_m):
    """Moves corners at random, the same corner alike in every face that shares it."""
    moved = {}
    for face in faces:
        for corner in face:
            if corner not in moved:
                du, dv = rng.normal(0, sigma_m, 2)
                moved[corner] = (corner[0] + du, corner[1] + dv, max(0.3, corner[2] + rng.normal(0, 0.08)))
    return [[moved[corner] for corner in face] for face in faces]


def _wear(rng, layer, x, y, angle, length, width, colour, kind):
    """Seams, folds, stains and, on tarpaulins, patches of other sheets."""
    def inside(u, v):
        return place([(u, v)], x, y, angle)[0]

    if kind == "tarp":
        for _ in range(rng.poisson(1.2)):
            u, v = rng.uniform(-0.38, 0.05) * length, rng.uniform(-0.4, 0.0) * width
            du, dv = rng.uniform(0.15, 0.4) * length, rng.uniform(0.2, 0.45) * width
            other = np.array(list(FABRICS.values())[rng.integers(5)]) * rng.uniform(0.7, 0.95)
            patch = 0.55 * colour + 0.45 * other
            layer.polygon([inside(u, v), inside(u + du, v), inside(u + du, v + dv), inside(u, v + dv)], patch, True)
        for _ in range(rng.poisson(2)):  # stones and sticks that hold the sheet down
            u, v = rng.uniform(-0.42, 0.42) * length, rng.uniform(-0.4, 0.4) * width
            layer.line([inside(u, v), inside(u + 0.35, v + rng.uniform(-0.3, 0.3))], colour * 0.5, 0.15)
    for _ in range(rng.integers(2, 7)):  # folds run from the ridge to the eaves
        u, side = rng.uniform(-0.36, 0.36) * length, rng.choice([-1, 1])
        fold = [inside(u, 0.05 * side * width), inside(u + rng.normal(0, 0.25), 0.42 * side * width)]
        layer.line(fold, colour * rng.uniform(0.80, 1.02), 0.14)
    layer.line([inside(-0.36 * length, 0), inside(0.36 * length, 0)], colour * rng.uniform(0.92, 1.08), 0.12)
