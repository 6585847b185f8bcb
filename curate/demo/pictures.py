"""Procedural pictures: ten kinds of scene, painted from two seeded generators.

A *series* is one plan (palette, composition, size); a *take* is one set of details inside it. Two
takes of a series look alike as two photographs of one place do, and are not copies of each other:
they are the hard negatives of a copy detector. Only NumPy's Generator and Pillow are used.
"""
# ruff: noqa: PLR2004 - proportions and chances of a drawing read best where they are used

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from curate.demo.brushes import (
    Rgb,
    clouds,
    colourise,
    glow,
    gradient,
    mix,
    palette,
    rgb,
    ridge,
    smooth,
    turned,
)

Painted = tuple[Image.Image, int]
"""A picture, and which of its scene's kinds it is."""
Painter = Callable[[Generator, Generator, tuple[int, int]], Painted]

SIZES = ((256, 192), (192, 256), (224, 224), (240, 160), (160, 240), (208, 208), (256, 176))
_SCALE = 2  # scenes are drawn twice as large and averaged down, which smooths every edge


@dataclass(frozen=True)
class Scene:
    """What is painted: its name, its kinds, which are the classes, its captions and its painter."""

    name: str
    kinds: tuple[str, ...]
    captions: tuple[str, ...]
    paint: Painter


@dataclass(frozen=True)
class Picture:
    """A picture (RGB), its caption, and its class as a place in `CLASS_NAMES`."""

    image: Image.Image
    caption: str
    label: int


def _mirror_in_water(image: Image.Image, detail: Generator, shore: int) -> Image.Image:
    """Everything above row `shore` once more below it, squeezed, rippled and darker."""
    width, height = image.size
    depth = height - shore
    above = image.crop((0, 0, width, shore)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    water = np.asarray(above.resize((width, depth), Image.Resampling.BILINEAR))
    rows = np.arange(depth)
    shift = np.sin(rows / detail.uniform(2.5, 5.0)) * (1 + rows / depth * 6)
    columns = (np.arange(width)[None, :] + shift.round().astype(int)[:, None]) % width
    rippled = water[rows[:, None], columns] * np.float32(0.78) + np.float32(12)
    image.paste(Image.fromarray(rippled.astype(np.uint8)), (0, shore))
    return image


def _mountain_lake(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    hue = plan.choice([0.03, 0.08, 0.55, 0.58, 0.62, 0.75, 0.9]) + plan.uniform(-0.03, 0.03)
    top = rgb(hue + plan.uniform(-0.1, 0.1), plan.uniform(0.45, 0.8), plan.uniform(0.45, 0.9))
    low = rgb(plan.uniform(0.02, 0.14), plan.uniform(0.2, 0.7), 1.0)
    rock = rgb(plan.random(), plan.uniform(0.2, 0.6), plan.uniform(0.15, 0.4))
    shore = int(height * plan.uniform(0.6, 0.78))
    sun = (width * plan.uniform(0.15, 0.85), shore * plan.uniform(0.2, 0.6))
    is_low = int(sun[1] > 0.4 * shore)
    radius = width * plan.uniform(0.03, 0.07)
    image = gradient(size, top, low)
    moved = (sun[0] + width * detail.uniform(-0.06, 0.06), sun[1])
    image = clouds(glow(image, moved, radius, (255, 244, 214)), detail, 0.55)
    draw = ImageDraw.Draw(image)
    for layer in range(3):
        share = (layer + 1) / 3
        profile = ridge(detail, width, 3 + 2 * layer) * (0.48 - 0.13 * layer) * shore
        crest = shore - profile - shore * 0.04 * (3 - layer)
        outline = [(x, float(crest[x])) for x in range(0, width, 2)]
        draw.polygon([(0, shore), *outline, (width, shore)], fill=mix(low, rock, share))
        if layer == 0:
            snow = [(x, min(y + shore * 0.05, shore)) for x, y in reversed(outline)]
            draw.polygon(outline + snow, fill=mix(low, (250, 250, 255), 0.75))
    return _mirror_in_water(image, detail, shore), is_low


def _fallen_leaves(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    colours = palette(plan, 6, plan.uniform(0.12, 0.6))
    slim = plan.uniform(0.25, 0.75)
    largest = min(size) * plan.uniform(0.18, 0.34)
    image = Image.new("RGB", size, mix(colours[0], (20, 16, 12), 0.7))
    draw = ImageDraw.Draw(image)
    along = np.linspace(0, np.pi, 12)
    half = np.stack([-np.cos(along), np.sin(along) ** 1.3 * slim], axis=1)
    leaf = np.concatenate([half, half[::-1] * [1, -1]])
    for _ in range(130):  # sizes follow a power law, as in the dead-leaves model
        length = largest * (1 - detail.random() * 0.86) ** 1.7
        at = (detail.uniform(0, size[0]), detail.uniform(0, size[1]))
        angle = detail.uniform(0, 2 * math.pi)
        tone = colours[int(detail.integers(len(colours)))]
        fill = mix(tone, (0, 0, 0) if detail.random() < 0.5 else (255, 240, 200), 0.25)
        shade = (at[0] + length * 0.08, at[1] + length * 0.12)
        draw.polygon(turned(leaf * length, angle, shade), fill=mix(fill, (0, 0, 0), 0.6))
        draw.polygon(turned(leaf * length, angle, at), fill=fill)
        vein = np.array([[-1.0, 0.0], [0.9, 0.0]]) * length
        draw.line(turned(vein, angle, at), fill=mix(fill, (0, 0, 0), 0.35), width=2)
    return image, int(slim > 0.5)


def _face(
    draw: ImageDraw.ImageDraw, detail: Generator, head: tuple[float, float, float], skin: Rgb
) -> bool:
    """Eyes, brows, nose and mouth on a head at (x, y) of half-width r; whether it wears glasses."""
    x, y, r = head
    look = detail.uniform(-0.12, 0.12) * r
    dark = mix(skin, (30, 10, 10), 0.65)
    glasses = bool(detail.random() < 0.35)
    for side in (-1, 1):
        eye_x, eye_y = x + look + side * r * 0.4, y - r * 0.05
        w, h = r * 0.17, r * detail.uniform(0.07, 0.12)
        draw.ellipse((eye_x - w, eye_y - h, eye_x + w, eye_y + h), fill=(246, 244, 240))
        draw.ellipse((eye_x - h, eye_y - h, eye_x + h, eye_y + h), fill=dark)
        brow = eye_y - r * 0.25
        draw.line((eye_x - w, brow, eye_x + w, brow - side * r * 0.03), fill=dark, width=6)
        if glasses:
            box = (eye_x - r * 0.3, eye_y - r * 0.22, eye_x + r * 0.3, eye_y + r * 0.24)
            draw.ellipse(box, outline=(25, 25, 30), width=5)
    nose = [(x + look, y), (x + look + r * 0.1, y + r * 0.35), (x + look - r * 0.06, y + r * 0.35)]
    draw.polygon(nose, fill=mix(skin, (90, 30, 20), 0.25))
    wide, smile = r * detail.uniform(0.22, 0.42), r * detail.uniform(0.05, 0.22)
    mouth = (x + look - wide, y + r * 0.6 - smile, x + look + wide, y + r * 0.6 + smile)
    draw.chord(mouth, 0, 180, fill=(150, 50, 55))
    return glasses


def _portrait(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    wall, other, shirt = palette(plan, 3, 0.9)
    skin = rgb(plan.uniform(0.04, 0.09), plan.uniform(0.25, 0.65), plan.uniform(0.45, 0.97))
    hair = rgb(plan.uniform(0.02, 0.13), plan.uniform(0.2, 0.8), plan.uniform(0.08, 0.75))
    image = colourise(smooth(detail, size, 2, 2), [wall, mix(wall, other, 0.6), other])
    draw = ImageDraw.Draw(image)
    r = min(size) * detail.uniform(0.19, 0.27)
    x = width * detail.uniform(0.36, 0.64)
    y = height * detail.uniform(0.38, 0.48)
    shoulder = r * detail.uniform(1.7, 2.3)
    long_hair = detail.uniform(0.2, 1.9) * r
    draw.rounded_rectangle((x - r * 1.2, y - r * 1.5, x + r * 1.2, y + long_hair), r * 0.9, hair)
    draw.ellipse((x - shoulder, y + r * 1.45, x + shoulder, y + r * 5), fill=shirt)
    stripe = mix(shirt, (255, 255, 255), detail.uniform(0.2, 0.6))
    for row in range(int(detail.integers(0, 5))):
        low = y + r * (1.75 + 0.35 * row)
        draw.line((x - shoulder * 0.7, low, x + shoulder * 0.7, low), fill=stripe, width=10)
    shadow = mix(skin, (60, 20, 20), 0.3)
    draw.rectangle((x - r * 0.38, y + r * 0.7, x + r * 0.38, y + r * 1.65), fill=shadow)
    draw.ellipse((x - r, y - r * 1.25, x + r, y + r * 1.25), fill=skin)
    fringe = detail.uniform(150, 210)
    draw.chord((x - r, y - r * 1.35, x + r, y + r * 0.5), fringe, fringe + 180, fill=hair)
    glasses = _face(draw, detail, (x, y, r), skin)
    if detail.random() < 0.3:
        draw.rectangle((x - r * 1.5, y - r * 0.85, x + r * 1.5, y - r * 0.68), fill=other)
        draw.rectangle((x - r, y - r * 1.6, x + r, y - r * 0.8), fill=other)
    return image.filter(ImageFilter.GaussianBlur(1.5)), int(glasses)


def _building(
    draw: ImageDraw.ImageDraw,
    detail: Generator,
    box: tuple[float, float, float, float],
    wall: Rgb,
    lamp: Rgb,
) -> None:
    """One tower with a grid of windows, of which a random part is lit."""
    left, top, right, bottom = box
    draw.rectangle(box, fill=wall)
    step_x, step_y = detail.uniform(9, 14), detail.uniform(11, 17)
    lit = detail.uniform(0.25, 0.75)
    columns, rows = int((right - left - 6) / step_x), int((bottom - top - 8) / step_y)
    on = detail.random((max(rows, 0), max(columns, 0)))
    for row, column in np.argwhere(on < lit):
        x, y = left + 5 + column * step_x, top + 6 + row * step_y
        lit_by = mix(lamp, (255, 255, 255), float(on[row, column]) * 0.6)
        draw.rectangle((x, y, x + step_x * 0.5, y + step_y * 0.5), fill=lit_by)
    if detail.random() < 0.3:
        middle = (left + right) / 2
        draw.line((middle, top, middle, top - (right - left) * 0.8), fill=wall, width=3)


def _night_skyline(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    hue = plan.uniform(0.55, 0.95)
    horizon = rgb(plan.uniform(0.0, 1.0), 0.6, plan.uniform(0.35, 0.75))
    lamp = rgb(plan.uniform(0.08, 0.16), plan.uniform(0.4, 0.8), 1.0)
    shore = int(height * plan.uniform(0.7, 0.9))
    tallest = plan.uniform(0.45, 0.75)
    moon = (width * plan.uniform(0.1, 0.9), height * plan.uniform(0.08, 0.3))
    image = gradient(size, rgb(hue, 0.8, 0.12), horizon)
    image = glow(image, moon, width * plan.uniform(0.025, 0.05), (245, 240, 225))
    draw = ImageDraw.Draw(image)
    for x, y in detail.random((60, 2)) * [width, shore * 0.6]:
        draw.ellipse((x, y, x + 2, y + 2), fill=(230, 230, 245))
    for layer, share in enumerate((0.55, 0.85)):
        wall = mix(horizon, (8, 8, 20), share)
        left = -detail.uniform(0, 0.1) * width
        while left < width:
            wide = width * detail.uniform(0.07, 0.16)
            top = shore * (1 - tallest * detail.uniform(0.25, 1.0) * (1 - 0.3 * layer))
            _building(draw, detail, (left, top, left + wide, shore), wall, lamp)
            left += wide + width * detail.uniform(0, 0.03)
    return _mirror_in_water(image, detail, shore), int(tallest > 0.6)


def _marble(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    colours = palette(plan, 4, plan.uniform(0.1, 0.5))
    colours = [*colours, mix(colours[0], (255, 255, 255), 0.7)]
    angle, bands = plan.uniform(0, math.pi), plan.uniform(3, 11)
    warp = plan.uniform(1.5, 5.0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(min(size))
    noise = smooth(detail, size, 3, 5)
    along = x * math.cos(angle) + y * math.sin(angle)
    veins = np.sin((along * bands + noise * warp) * 2 * math.pi / 2) * 0.5 + 0.5
    grain = smooth(detail, size, 24, 2)
    field = np.clip(veins**0.8 * 0.85 + grain * 0.15, 0, 1).astype(np.float32)
    return colourise(field, colours), int(bands > 7)


def _star(points: int, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _cloth(plan: Generator, size: tuple[int, int]) -> Painted:
    """A flat flag: stripes, a cross or a triangle in three colours, with an emblem."""
    width, height = size
    colours = palette(plan, 4, 1.0)
    image = Image.new("RGB", size, colours[0])
    draw = ImageDraw.Draw(image)
    kind, count = int(plan.integers(4)), int(plan.integers(2, 6))
    for stripe in range(count):
        share = (stripe / count, (stripe + 1) / count)
        fill = colours[stripe % 3]
        if kind in (0, 3):
            draw.rectangle((0, share[0] * height, width, share[1] * height), fill=fill)
        elif kind == 1:
            draw.rectangle((share[0] * width, 0, share[1] * width, height), fill=fill)
    if kind == 2:
        arm, post = height * plan.uniform(0.1, 0.25), width * plan.uniform(0.3, 0.5)
        draw.rectangle((post - arm / 2, 0, post + arm / 2, height), fill=colours[1])
        draw.rectangle((0, height / 2 - arm / 2, width, height / 2 + arm / 2), fill=colours[1])
    if kind == 3:
        tip = width * plan.uniform(0.3, 0.5)
        draw.polygon([(0, 0), (tip, height / 2), (0, height)], fill=colours[3])
    star = _star(int(plan.integers(4, 9)), plan.uniform(0.4, 0.75)) * height
    at = (width * plan.uniform(0.15, 0.8), height * plan.uniform(0.25, 0.75))
    draw.polygon(turned(star * plan.uniform(0.12, 0.26), 0.0, at), fill=colours[3])
    return image, max(kind - 1, 0)


def _flag(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    sky = rgb(plan.uniform(0.5, 0.65), plan.uniform(0.3, 0.7), plan.uniform(0.6, 0.95))
    wide = int(width * detail.uniform(0.6, 0.8))
    tall = int(min(wide * 0.64, height * 0.72))
    drawn, kind = _cloth(plan, (wide, tall))
    flat = np.asarray(drawn, np.float32)
    image = clouds(gradient(size, sky, mix(sky, (255, 255, 255), 0.6)), detail, 0.9)
    columns = np.arange(wide) / wide
    phase, waves = detail.uniform(0, 2 * math.pi), detail.uniform(1.0, 2.8)
    lift = np.sin(columns * waves * 2 * math.pi + phase) * columns**0.6
    slope = np.cos(columns * waves * 2 * math.pi + phase)
    margin = int(tall * detail.uniform(0.05, 0.12))
    rows = np.arange(tall + 2 * margin)[:, None] - margin + (lift * margin).round()[None, :]
    inside = (rows >= 0) & (rows < tall)
    at = np.clip(rows, 0, tall - 1).astype(int)
    waved = flat[at, np.arange(wide)[None, :]] * (1 + 0.28 * slope)[None, :, None]
    left = int(width * detail.uniform(0.08, 0.16))
    top = int((height - tall) * detail.uniform(0.15, 0.55))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 10, max(top - margin, 4), left, height), fill=(120, 110, 100))
    cloth = Image.fromarray(np.clip(waved, 0, 255).astype(np.uint8))
    image.paste(cloth, (left, top), Image.fromarray((inside * 255).astype(np.uint8)))
    return image, kind


def _chart(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    dark = plan.random() < 0.4
    paper = rgb(plan.random(), 0.25, 0.2) if dark else rgb(plan.random(), 0.12, 1.0)
    ink = (235, 235, 235) if dark else (40, 40, 50)
    colours = palette(plan, 5, plan.uniform(0.2, 1.0))
    kind, count = int(plan.integers(3)), int(plan.integers(4, 10))
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = width * 0.1, height * 0.2, width * 0.94, height * 0.88
    font = ImageFont.load_default(height * 0.075)
    subject = plan.choice(["Sales", "Rain", "Births", "Traffic", "Votes"])
    title = f"{subject} {detail.integers(1900, 2030)}"
    draw.text((left, height * 0.06), title, fill=ink, font=font)
    values = detail.uniform(0.12, 1.0, (2, count))
    if kind == 2:
        side = min(right - left, bottom - top)
        middle = (width * detail.uniform(0.35, 0.65), (top + bottom) / 2)
        box = (middle[0] - side / 2, top, middle[0] + side / 2, top + side)
        edges = np.cumsum(values[0]) / values[0].sum() * 360 + detail.uniform(0, 360)
        for part, (start, end) in enumerate(zip(np.roll(edges, 1), edges, strict=True)):
            draw.pieslice(box, start, end, fill=colours[part % 5], outline=paper, width=3)
        return image, kind
    for line in np.linspace(top, bottom, 6):
        draw.line((left, line, right, line), fill=mix(paper, ink, 0.25), width=2)
    step = (right - left) / count
    heights = bottom - values * (bottom - top)
    for at in range(count):
        x = left + at * step
        bar = (x + step * 0.12, heights[0, at], x + step * 0.88, bottom)
        draw.rectangle(bar, fill=colours[at % 5 if kind == 0 else 0])
    if kind == 1:
        dots = [(left + (at + 0.5) * step, float(heights[1, at])) for at in range(count)]
        draw.line(dots, fill=colours[1], width=7, joint="curve")
        for x, y in dots:
            draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=colours[2])
    draw.line((left, top, left, bottom, right, bottom), fill=ink, width=4)
    return image, kind


def _ball(radius: int, colour: Rgb, light: tuple[float, float]) -> Image.Image:
    """A shaded sphere with a highlight on a transparent square (Lambert plus Phong)."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32) / radius
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    sun = np.array([light[0], light[1], 0.8])
    sun /= np.linalg.norm(sun)
    lambert = np.clip(x * sun[0] + y * sun[1] + z * sun[2], 0, 1)
    shine = np.clip(lambert * 2 * z - sun[2], 0, 1) ** 24
    shade = (0.22 + 0.85 * lambert)[..., None] * np.asarray(colour) + shine[..., None] * 200
    alpha = np.clip((1 - np.hypot(x, y)) * radius, 0, 1)[..., None] * 255
    both = np.concatenate([np.clip(shade, 0, 255), alpha], axis=2)
    return Image.fromarray(both.astype(np.uint8))


def _still_life(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    wall, table, *colours = palette(plan, 7, plan.uniform(0.3, 1.0))
    edge = int(height * plan.uniform(0.45, 0.65))
    light = (plan.choice([-0.8, 0.8]), -0.8)
    image = gradient(size, mix(wall, (255, 255, 255), 0.35), mix(wall, (0, 0, 0), 0.35))
    grain = smooth(detail, (width, height - edge), 4)
    wood = colourise(grain, [table, mix(table, wall, 0.4)])
    image.paste(wood, (0, edge))
    count = int(plan.integers(3, 7))
    feet = np.sort(detail.uniform(0.1, 0.85, count))
    for foot in feet:  # from the back of the table to the front
        radius = int(min(size) * (0.07 + 0.1 * foot) * detail.uniform(0.8, 1.4))
        x = width * detail.uniform(0.1, 0.9)
        y = edge + (height - edge) * foot
        spread = radius * 1.1
        shadow = Image.new("L", size, 0)
        throw = x - light[0] * radius * 0.7
        oval = (throw - spread, y - radius * 0.25, throw + spread, y + radius * 0.25)
        ImageDraw.Draw(shadow).ellipse(oval, fill=150)
        image = Image.composite(ImageChops.multiply(image, _grey(size, 70)), image, shadow)
        ball = _ball(radius, colours[int(detail.integers(len(colours)))], light)
        image.paste(ball, (int(x - radius), int(y - 2 * radius)), ball)
    return image, int(count > 4)


def _grey(size: tuple[int, int], value: int) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def _flowers(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    grass = rgb(plan.uniform(0.2, 0.42), plan.uniform(0.4, 0.8), plan.uniform(0.25, 0.6))
    light = mix(grass, (240, 255, 200), plan.uniform(0.2, 0.6))
    colours = palette(plan, 3, 0.25)
    petals, slim = int(plan.integers(5, 13)), plan.uniform(0.18, 0.38)
    heart = rgb(plan.uniform(0.08, 0.16), 0.9, plan.uniform(0.5, 1.0))
    image = colourise(smooth(detail, size, 5, 3), [mix(grass, (0, 20, 0), 0.5), grass, light])
    draw = ImageDraw.Draw(image)
    turn = np.linspace(0, 2 * math.pi, 14)
    petal = np.stack([0.55 + 0.45 * np.cos(turn), slim * np.sin(turn)], axis=1)
    for _ in range(int(plan.integers(3, 9))):
        x, y = detail.uniform(0.08, 0.92) * size[0], detail.uniform(0.08, 0.75) * size[1]
        radius = min(size) * detail.uniform(0.1, 0.24)
        stem = mix(grass, (0, 40, 0), 0.35)
        foot = x + detail.uniform(-0.2, 0.2) * size[0]
        draw.line((x, y, foot, size[1]), fill=stem, width=6)
        start, tone = detail.uniform(0, math.pi), colours[int(detail.integers(3))]
        for index in range(petals):
            fill = mix(tone, (255, 255, 255), 0.3 * (index % 2))
            outline = mix(tone, (0, 0, 0), 0.3)
            angle = start + index * 2 * math.pi / petals
            draw.polygon(turned(petal * radius, angle, (x, y)), fill=fill, outline=outline)
        core = radius * 0.28
        draw.ellipse((x - core, y - core, x + core, y + core), fill=heart)
    return image, int(petals > 8)


def _spiral(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    """The light of a tilted spiral galaxy of two, three or four arms on black."""
    width, height = size
    tilt, arms = plan.uniform(0.35, 1.0), int(plan.integers(2, 5))
    middle = (width * plan.uniform(0.3, 0.7), height * plan.uniform(0.3, 0.7))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shift = detail.uniform(-0.12, 0.12, 2) * min(size)
    dx, dy = (x - middle[0] - shift[0]) / min(size), (y - middle[1] - shift[1]) / min(size) / tilt
    distance = np.hypot(dx, dy) + 1e-3
    swirl = np.cos(arms * (np.arctan2(dy, dx) + 2.2 * np.log(distance)) + detail.uniform(0, 6.3))
    light = np.exp(-distance * 5) * (0.6 + 0.4 * swirl) + np.exp(-distance * 22)
    halo = np.clip(light[..., None] * np.array([255, 235, 210]), 0, 255)
    return Image.fromarray(halo.astype(np.uint8)), arms - 2


def _galaxy(plan: Generator, detail: Generator, size: tuple[int, int]) -> Painted:
    width, height = size
    first, second = palette(plan, 2, plan.uniform(0.15, 0.7))
    small = (width // 2, height // 2)  # gas and halo are smooth: half the resolution is enough
    gas = smooth(detail, small, 3, 5)
    sky = colourise(gas**2.2, [(4, 4, 14), mix(first, (0, 0, 0), 0.5), first, second])
    light, kind = _spiral(plan, detail, small)
    image = ImageChops.add(sky, light).resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for at_x, at_y, bright in detail.random((140, 3)):
        r = 0.8 + 3.2 * bright**8
        x, y = at_x * width, at_y * height
        tone = mix((150, 150, 190), (255, 255, 255), bright)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tone)
    return image, kind


SCENES = (
    Scene(
        "mountain lake",
        ("midday", "dusk"),
        ("a lake below mountains", "mountains mirrored in still water", "sunset over a lake"),
        _mountain_lake,
    ),
    Scene(
        "fallen leaves",
        ("willow leaves", "oak"),
        ("a carpet of fallen leaves", "leaves on the ground", "a collage of leaves"),
        _fallen_leaves,
    ),
    Scene(
        "portrait",
        ("head", "eyeglasses"),
        ("a portrait of a person", "a painted face", "a person in front of a wall"),
        _portrait,
    ),
    Scene(
        "night skyline",
        ("hamlet", "towers"),
        ("a city at night", "lit windows of a skyline", "towers under the moon"),
        _night_skyline,
    ),
    Scene(
        "marble",
        ("agate", "malachite"),
        ("a polished slab of marble", "veins in coloured stone", "a marble texture"),
        _marble,
    ),
    Scene(
        "flag",
        ("ensign", "flag with a cross", "pennant"),
        ("a flag in the wind", "a waving flag on a pole", "a flag against the sky"),
        _flag,
    ),
    Scene(
        "chart",
        ("bar graph", "plot", "pie chart"),
        ("a chart from a report", "a diagram with colours", "a slide with a chart"),
        _chart,
    ),
    Scene(
        "still life",
        ("bowls", "snooker"),
        ("coloured balls on a table", "a still life of spheres", "shiny balls in soft light"),
        _still_life,
    ),
    Scene(
        "flowers",
        ("poppy", "sunflower"),
        ("flowers in a meadow", "blossoms in the grass", "wild flowers in summer"),
        _flowers,
    ),
    Scene(
        "galaxy",
        ("galaxy", "triskelion", "milky way"),
        ("a spiral galaxy", "a nebula and its stars", "deep sky with a galaxy"),
        _galaxy,
    ),
)


CLASS_NAMES = tuple(kind for scene in SCENES for kind in scene.kinds)
"""Kinds of a scene differ in what the eye sees and a small picture hardly shows: how many petals,
balls or arms, how tall a town, how broad a leaf; by names that the built-in CLIP tells apart."""


def paint(seed: int, scene: int, series: int, take: int) -> Picture:
    """One picture, 160 to 256 pixels a side, of a scene by its place in `SCENES`.

    The same four numbers give the same pixels. Pictures of one `scene` and `series` share plan and
    size; they differ in everything the painter calls detail.
    """
    chosen = SCENES[scene]
    plan = np.random.default_rng([seed, scene, series])
    detail = np.random.default_rng([seed, scene, series, take + 1])
    width, height = SIZES[int(plan.integers(len(SIZES)))]
    caption = chosen.captions[int(plan.integers(len(chosen.captions)))]
    large, kind = chosen.paint(plan, detail, (width * _SCALE, height * _SCALE))
    label = sum(len(other.kinds) for other in SCENES[:scene]) + kind
    return Picture(large.reduce(_SCALE), caption, label)
