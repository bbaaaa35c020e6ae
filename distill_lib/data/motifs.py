"""Things to draw, as signed distances in a frame where they reach from about -1 to 1 (v points down).

Each function returns (body, detail): distances (n, S, S), negative inside; detail, in a second colour, may be None.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from distill_lib.data.drawing import Plane, strokes, uniform

Distances = tuple[np.ndarray, np.ndarray | None]
Motif = Callable[[np.random.Generator, Plane], Distances]


# --- primitives ---------------------------------------------------------------------------------------


def disc(plane: Plane, x=0.0, y=0.0, radius=1.0) -> np.ndarray:
    u, v = plane.u - x, plane.v - y
    return np.sqrt(u * u + v * v) - radius


def box(plane: Plane, x=0.0, y=0.0, half_width=1.0, half_height=1.0) -> np.ndarray:
    return np.maximum(np.abs(plane.u - x) - half_width, np.abs(plane.v - y) - half_height)


def wedge(plane: Plane, x=0.0, tip=-1.0, base=1.0, half_width=1.0) -> np.ndarray:
    """An isosceles triangle with its tip at (x, tip) and a level base; the tip may lie below the base."""
    height = base - tip
    slant = half_width / math.hypot(half_width, height)
    along = (plane.v - tip) * math.copysign(1, height)
    sides = np.abs(plane.u - x) * abs(height) / math.hypot(half_width, height) - along * slant
    return np.maximum(sides, along - abs(height))


def bar(plane: Plane, x0: float, y0: float, x1: float, y1: float, width) -> np.ndarray:
    points = np.broadcast_to(np.array([x0, y0, x1, y1]), (len(plane.u), 1, 4))
    return strokes(plane, points, width)


def union(*distances: np.ndarray) -> np.ndarray:
    nearest = distances[0]
    for distance in distances[1:]:
        nearest = np.minimum(nearest, distance)
    return nearest


# --- plain shapes: the downstream set `shapes` --------------------------------------------------------


def circle(rng: np.random.Generator, plane: Plane) -> Distances:
    return disc(plane, radius=0.85), None


def square(rng: np.random.Generator, plane: Plane) -> Distances:
    return box(plane, half_width=0.75, half_height=0.75), None


def triangle(rng: np.random.Generator, plane: Plane) -> Distances:
    return wedge(plane, tip=-0.95, base=0.65, half_width=0.92), None


def star(rng: np.random.Generator, plane: Plane) -> Distances:
    """Five points: mirror the plane into a tenth of itself, where the outline is one straight edge."""
    x, y = np.abs(plane.u), -plane.v
    cos, sin = math.cos(math.pi / 5), math.sin(math.pi / 5)
    for side in (1, -1):
        beyond = 2 * np.maximum(side * cos * x - sin * y, 0)
        x, y = x - beyond * side * cos, y + beyond * sin
    x, y = np.abs(x), y - 1
    inner = uniform(rng, len(x), 0.38, 0.5)
    edge_x, edge_y = inner * sin, inner * cos - 1
    return (y * edge_x - x * edge_y) / np.sqrt(edge_x * edge_x + edge_y * edge_y), None


def ring(rng: np.random.Generator, plane: Plane) -> Distances:
    width = uniform(rng, len(plane.u), 0.13, 0.22)
    return np.abs(disc(plane, radius=0.72)) - width, None


def cross(rng: np.random.Generator, plane: Plane) -> Distances:
    thick = uniform(rng, len(plane.u), 0.2, 0.3)
    return union(box(plane, half_width=0.9, half_height=thick), box(plane, half_width=thick, half_height=0.9)), None


def crescent(rng: np.random.Generator, plane: Plane) -> Distances:
    shift = uniform(rng, len(plane.u), 0.4, 0.6)
    return np.maximum(disc(plane, radius=0.9), -disc(plane, x=shift, radius=0.75)), None


def heart(rng: np.random.Generator, plane: Plane) -> Distances:
    lobes = union(disc(plane, -0.42, -0.3, 0.5), disc(plane, 0.42, -0.3, 0.5))
    return union(lobes, wedge(plane, tip=0.95, base=-0.12, half_width=0.92), box(plane, 0, -0.2, 0.42, 0.2)), None


SHAPES: dict[str, Motif] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "ring": ring,
    "cross": cross,
    "crescent": crescent,
    "heart": heart,
}


# --- composed objects: the pre-training set -----------------------------------------------------------


def house(rng: np.random.Generator, plane: Plane) -> Distances:
    door = uniform(rng, len(plane.u), -0.35, 0.35)
    walls = box(plane, 0, 0.4, 0.62, 0.5)
    roof = wedge(plane, tip=-0.95, base=-0.05, half_width=0.95)
    return union(walls, roof), union(roof, box(plane, door, 0.55, 0.16, 0.34))


def tree(rng: np.random.Generator, plane: Plane) -> Distances:
    """A fir or a broad-leaved tree."""
    trunk = box(plane, 0, 0.65, uniform(rng, len(plane.u), 0.1, 0.18), 0.32)
    broad = disc(plane, 0, -0.25, 0.66)
    fir = union(wedge(plane, tip=-0.98, base=-0.05, half_width=0.6), wedge(plane, tip=-0.5, base=0.4, half_width=0.8))
    crown = np.where(uniform(rng, len(plane.u)) < 0.5, fir, broad)
    return union(crown, trunk), trunk


def fish(rng: np.random.Generator, plane: Plane) -> Distances:
    high = uniform(rng, len(plane.u), 1.4, 2.1)
    x, y = plane.u + 0.22, plane.v * high
    body = (np.sqrt(x * x + y * y) - 0.74) / high
    tail = wedge(Plane(plane.v, plane.u, plane.unit), tip=0.3, base=0.95, half_width=0.5)
    return union(body, tail), disc(plane, -0.6, -0.1, 0.11)


def cup(rng: np.random.Generator, plane: Plane) -> Distances:
    band = uniform(rng, len(plane.u), -0.3, 0.4)
    handle = np.abs(disc(plane, 0.5, 0.05, 0.36)) - 0.1
    mug = box(plane, -0.15, 0.05, 0.6, 0.75)
    return union(mug, handle), np.maximum(mug, np.abs(plane.v - band) - 0.14)


def mushroom(rng: np.random.Generator, plane: Plane) -> Distances:
    cap = np.maximum(disc(plane, 0, 0.05, 0.95), plane.v - 0.05)
    stem = box(plane, 0, 0.45, uniform(rng, len(plane.u), 0.16, 0.28), 0.45)
    return union(cap, stem), union(disc(plane, -0.4, -0.25, 0.17), disc(plane, 0.35, -0.35, 0.2), stem)


def car(rng: np.random.Generator, plane: Plane) -> Distances:
    cabin = box(plane, uniform(rng, len(plane.u), -0.25, 0.25), -0.25, 0.5, 0.28)
    wheels = union(disc(plane, -0.52, 0.42, 0.25), disc(plane, 0.52, 0.42, 0.25))
    return union(box(plane, 0, 0.15, 0.98, 0.26), cabin, wheels), wheels


def boat(rng: np.random.Generator, plane: Plane) -> Distances:
    hull = np.maximum(box(plane, 0, 0.6, 2, 0.25), np.abs(plane.u) + 0.7 * (plane.v - 0.35) - 0.95)
    lean = uniform(rng, len(plane.u), -0.3, 0.3)
    sail = wedge(Plane(plane.u - lean * (0.3 - plane.v), plane.v, plane.unit), tip=-0.95, base=0.2, half_width=0.6)
    return union(hull, sail, box(plane, 0, 0.2, 0.05, 0.3)), sail


def flower(rng: np.random.Generator, plane: Plane) -> Distances:
    petals = [
        disc(plane, 0.55 * math.cos(angle), 0.55 * math.sin(angle) - 0.2, 0.3)
        for angle in (math.tau * number / 6 for number in range(6))
    ]
    stem = bar(plane, 0.0, 0.3, 0.0, 1.0, uniform(rng, len(plane.u), 0.06, 0.12))
    return union(*petals, disc(plane, 0, -0.2, 0.45), stem), disc(plane, 0, -0.2, 0.28)


def key(rng: np.random.Generator, plane: Plane) -> Distances:
    bow = np.abs(disc(plane, -0.55, 0, 0.32)) - 0.13
    teeth = union(box(plane, 0.85, 0.22, 0.1, 0.25), box(plane, 0.5, 0.18, 0.09, 0.2))
    return union(bow, box(plane, 0.37, 0, 0.58, uniform(rng, len(plane.u), 0.09, 0.14)), teeth), None


def arrow(rng: np.random.Generator, plane: Plane) -> Distances:
    shaft = box(plane, 0, 0.4, uniform(rng, len(plane.u), 0.13, 0.26), 0.55)
    return union(shaft, wedge(plane, tip=-0.95, base=0.0, half_width=0.75)), None


def panel(rng: np.random.Generator, plane: Plane) -> Distances:
    """A tile with rounded corners, mostly a place for a texture."""
    soft = uniform(rng, len(plane.u), 0.1, 0.7)
    x, y = np.maximum(np.abs(plane.u) - 1 + soft, 0), np.maximum(np.abs(plane.v) - 1 + soft, 0)
    return np.sqrt(x * x + y * y) - soft, None


def cloth(rng: np.random.Generator, plane: Plane) -> Distances:
    """No outline in sight, nothing but a texture."""
    return np.full_like(plane.u, -9), None


def gem(rng: np.random.Generator, plane: Plane) -> Distances:
    """A cut stone."""
    low = uniform(rng, len(plane.u), -0.4, -0.2)
    stone = np.maximum(np.abs(plane.u) * 0.75 + (plane.v - 0.9) * 0.55, -0.7 - plane.v)
    return np.maximum(stone, np.abs(plane.u) - 0.55 * (plane.v + 0.7) - 0.65), np.maximum(stone, low - plane.v)


# --- pen strokes --------------------------------------------------------------------------------------


def _line(*points: float) -> list[tuple[float, ...]]:
    """x0, y0, x1, y1, ... as straight pieces."""
    pairs = list(zip(points[::2], points[1::2], strict=True))
    return [(*first, *second) for first, second in pairwise(pairs)]


def _arc(x: float, y: float, wide: float, high: float, start: float, stop: float, pieces: int = 6):
    """Part of an ellipse; degrees, clockwise from the right since v points down."""
    angles = [math.radians(start + (stop - start) * number / pieces) for number in range(pieces + 1)]
    return _line(*(c for a in angles for c in (x + wide * math.cos(a), y + high * math.sin(a))))


ANGULAR = (
    _line(-0.6, 0.9, 0, -0.9, 0.6, 0.9) + _line(-0.35, 0.25, 0.35, 0.25),  # A
    _line(0.5, -0.9, -0.5, -0.9, -0.5, 0.9, 0.5, 0.9) + _line(-0.5, 0, 0.4, 0),  # E
    _line(0.5, -0.9, -0.5, -0.9, -0.5, 0.9) + _line(-0.5, 0, 0.4, 0),  # F
    _line(-0.5, -0.9, -0.5, 0.9) + _line(0.5, -0.9, 0.5, 0.9) + _line(-0.5, 0, 0.5, 0),  # H
    _line(-0.5, -0.9, -0.5, 0.9) + _line(0.5, -0.9, -0.5, 0.1, 0.5, 0.9),  # K
    _line(-0.5, -0.9, -0.5, 0.9, 0.5, 0.9),  # L
    _line(-0.6, 0.9, -0.6, -0.9, 0, 0.2, 0.6, -0.9, 0.6, 0.9),  # M
    _line(-0.5, 0.9, -0.5, -0.9, 0.5, 0.9, 0.5, -0.9),  # N
    _line(-0.6, -0.9, 0.6, -0.9) + _line(0, -0.9, 0, 0.9),  # T
    _line(-0.6, -0.9, 0, 0.9, 0.6, -0.9),  # V
    _line(-0.6, -0.9, 0.6, 0.9) + _line(0.6, -0.9, -0.6, 0.9),  # X
    _line(-0.5, -0.9, 0.5, -0.9, -0.5, 0.9, 0.5, 0.9),  # Z
)
ROUND = (
    _arc(0, 0, 0.6, 0.9, 50, 310, 9),  # C
    _line(-0.5, -0.9, -0.5, 0.9) + _arc(-0.5, 0, 1.0, 0.9, -90, 90),  # D
    _arc(0, 0, 0.6, 0.9, 40, 310, 8) + _line(0.5, 0.6, 0.5, 0.05, 0.1, 0.05),  # G
    _line(0.35, -0.9, 0.35, 0.4) + _arc(-0.1, 0.4, 0.45, 0.5, 0, 170),  # J
    _arc(0, 0, 0.6, 0.9, 0, 360, 10),  # O
    _line(-0.45, 0.9, -0.45, -0.9) + _arc(-0.45, -0.4, 0.9, 0.5, -90, 90),  # P
    _arc(0, -0.43, 0.5, 0.45, 300, 90) + _arc(0, 0.45, 0.5, 0.45, -90, 150),  # S
    _line(-0.5, -0.9, -0.5, 0.3) + _arc(0, 0.3, 0.5, 0.6, 180, 0) + _line(0.5, 0.3, 0.5, -0.9),  # U
    _arc(-0.1, -0.45, 0.5, 0.45, -150, 90) + _arc(-0.1, 0.45, 0.5, 0.45, -90, 150),  # a three
    _arc(-0.1, 0.3, 0.45, 0.5, 0, 360, 9) + _line(0.35, -0.9, 0.35, 0.9),  # a
    _arc(0, -0.35, 0.5, 0.5, 0, 360, 9) + _arc(-0.4, -0.3, 0.9, 1.2, 0, 80, 4),  # q
    _line(-0.45, -0.9, -0.45, 0.9) + _arc(0.05, 0.4, 0.45, 0.5, 180, 360),  # h
)


def _alphabet(letters: tuple) -> np.ndarray:
    """(letters, K, 4); short letters repeat their last piece."""
    longest = max(map(len, letters))
    return np.array([letter + [letter[-1]] * (longest - len(letter)) for letter in letters])


def _written(rng: np.random.Generator, plane: Plane, alphabet: np.ndarray) -> Distances:
    n = len(plane.u)
    points = alphabet[np.floor(rng.random(n) * len(alphabet)).astype(int)]
    wobble = 0.07 * (2 * rng.random((n, 2)) - 1)  # a slant and a curl of the hand, the same for both ends
    bent = points[:, :, [1, 0, 3, 2]] ** 2 * wobble[:, None, [0, 1, 0, 1]]
    return strokes(plane, points + bent, uniform(rng, n, 0.11, 0.24)), None


def angular_letter(rng: np.random.Generator, plane: Plane) -> Distances:
    return _written(rng, plane, _alphabet(ANGULAR))


def round_letter(rng: np.random.Generator, plane: Plane) -> Distances:
    return _written(rng, plane, _alphabet(ROUND))


def scribble(rng: np.random.Generator, plane: Plane, pieces: int = 11) -> Distances:
    """A pen that turns at a rate of its own, which may change sign once: hooks, loops and S-curves."""
    n = len(plane.u)
    rate = (0.25 + 0.5 * rng.random((n, 1))) * np.where(rng.random((n, 1)) < 0.5, -1, 1)
    swing = np.where(np.arange(pieces) / pieces > 0.2 + 1.3 * rng.random((n, 1)), -1, 1)
    heading = math.tau * rng.random((n, 1)) + np.cumsum(rate * swing, axis=1)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=2)
    path = np.concatenate([np.zeros((n, 1, 2)), np.cumsum(steps, axis=1)], axis=1)
    low, high = path.min(axis=1, keepdims=True), path.max(axis=1, keepdims=True)
    path = (path - (low + high) / 2) * (1.7 / (high - low).max(axis=2, keepdims=True))
    points = np.concatenate([path[:, :-1], path[:, 1:]], axis=2)
    return strokes(plane, points, uniform(rng, n, 0.1, 0.22)), None


OBJECTS: dict[str, Motif] = {
    "house": house,
    "tree": tree,
    "fish": fish,
    "cup": cup,
    "mushroom": mushroom,
    "car": car,
    "boat": boat,
    "flower": flower,
    "key": key,
    "arrow": arrow,
    "panel": panel,
    "cloth": cloth,
    "gem": gem,
    "angular letter": angular_letter,
    "round letter": round_letter,
    "scribble": scribble,
}


TEXTURED = ("panel", "cloth")  # little to see but a texture: it is drawn in full contrast


def by_kind(
    rng: np.random.Generator, plane: Plane, kinds: np.ndarray, bank: dict[str, Motif]
) -> tuple[np.ndarray, np.ndarray]:
    """Bodies and details (n, S, S): image i shows motif number `kinds[i]` of the bank; no detail is far away."""
    bodies, details = np.empty_like(plane.u), np.full_like(plane.u, 9)
    for kind, motif in enumerate(bank.values()):
        rows = np.flatnonzero(kinds == kind)
        if len(rows):
            body, detail = motif(rng, plane.rows(rows))
            bodies[rows] = body
            if detail is not None:
                details[rows] = detail
    return bodies, details
