"""The style of pictures: what the eye and a grey print can distinguish."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from nft_lightning.common.pictures import COLOURS, DASHES, FONT_POINTS, label_ends, look, spread

# What people without red or without green cones see, in linear RGB (Machado and others, 2009).
EYES = {
    "all cones": np.eye(3),
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
WHITE = np.array([0.9505, 1.0, 1.0888])
DARK_PAGE = "#16181c"
ROOT = Path(__file__).resolve().parents[2]
STYLE_MODULE = "nft_lightning.common.pictures"


def linear(colour: str) -> np.ndarray:
    """Return linear red, green and blue in [0, 1]."""
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b*, in which a distance of 2 is just seen side by side."""
    x = np.array(TO_XYZ) @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    bright = sorted(float(np.array(TO_XYZ[1]) @ linear(c)) + 0.05 for c in (one, other))
    return bright[1] / bright[0]


@pytest.mark.parametrize("eye", EYES)
def test_colours_are_distinct_for_every_eye(eye):
    seen = {colour: lab(np.array(EYES[eye]) @ linear(colour)) for colour in COLOURS}
    near = {
        pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]]))
        for pair in itertools.combinations(COLOURS, 2)
    }
    assert min(near.values()) > 8, min(near, key=near.get)


@pytest.mark.parametrize("page", ["#ffffff", DARK_PAGE])
def test_colours_stand_out_from_the_page(page):
    assert min(contrast(colour, page) for colour in COLOURS) >= 3


def test_curves_are_distinct_without_colours():
    looks = [look(i) for i in range(len(COLOURS))]
    assert len({str(shown["linestyle"]) for shown in looks}) == len(COLOURS) == len(DASHES)
    assert len({shown["marker"] for shown in looks}) == len(COLOURS)


def test_no_two_of_many_curves_are_alike():
    looks = [look(i) for i in range(4 * len(COLOURS))]
    assert len({(shown["color"], str(shown["linestyle"])) for shown in looks}) == len(looks)


def test_labels_keep_their_order_and_their_distance():
    heights = spread([0.0, 0.5, 0.5, 0.5, 0.52, 1.0], 0.1)
    assert heights == sorted(heights)
    assert min(np.diff(heights)) >= 0.1 - 1e-9
    assert heights[0] == 0.0
    assert heights[-1] == 1.0
    assert np.mean(heights[1:5]) == pytest.approx(np.mean([0.5, 0.5, 0.5, 0.52]))


def test_labels_of_equal_ends_do_not_overlap_in_the_picture():
    figure = Figure(figsize=(6, 3), layout="constrained")
    panel = figure.subplots()
    for i in range(4):
        panel.plot([0, 1], [0, 0.5], **look(i))
    panel.set_ylim(0, 1)
    label_ends(panel, dict.fromkeys("abcd", 0.5))
    figure.canvas.draw()
    boxes = sorted((t.get_window_extent() for t in panel.texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(low.y1 <= high.y0 + 0.2 * FONT_POINTS for low, high in itertools.pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_whatever_draws_uses_the_style():
    sources = [*(ROOT / "nft_lightning").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sources}
    drawing = {name for name, text in texts.items() if "matplotlib" in text}
    assert len(drawing) > 8
    drawing.remove(STYLE_MODULE.replace(".", "/") + ".py")
    assert not [name for name in sorted(drawing) if f"from {STYLE_MODULE} import" not in texts[name]]
