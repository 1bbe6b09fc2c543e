"""The difference of two pictures as a picture: A, B, the difference amplified, and a heat map with its box.

Promises: a PNG of bounded size that says in its own text that it is one of ours. Does not: write a file.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from dedup.compare.frames import Frames, Plane

MARK = b"dedup difference picture"
"""Stands in the PNG's text, by which an earlier picture is known from a photo of the same name."""
PANEL_PX = 900
GAP_PX = 8
FAINT, STANDS_OUT = 0.08, 0.25
"""Of the difference that is shown in full, the share that is not shown on the heat map, and that the box is about."""
LINE_PX = 22
_INK, _PAPER, _BOX = (20, 20, 20), (250, 250, 248), (0, 200, 255)

Rgb = NDArray[np.uint8]


def draw_difference(frames: Frames, names: tuple[str, str] = ("A", "B")) -> bytes:
    """PNG of four panels; the pictures must be of one shape.

    The difference is multiplied so that its 99.9th percentile is white, at most by 32, and the factor is written
    beside it. The heat map lies over the grey of A.
    """
    if frames.trouble:
        raise ValueError(frames.trouble)
    height, width = frames.a.shape[:2]
    gap = np.empty((height, width, 3), np.uint8)
    top = 0
    for p, q in frames.rows():
        # Alpha counts as a difference in all three colours.
        found = np.abs(p.astype(np.float32) - q)
        colours = found[..., :3] if frames.colours == 3 else np.repeat(found[..., :1], 3, axis=2)
        if frames.bands[-1] == "A":
            colours = np.maximum(colours, found[..., -1:])
        gap[top : top + len(p)] = np.ceil(np.minimum(colours, 255)).astype(np.uint8)
        top += len(p)
    strength = gap.max(axis=2)
    # The panel may be far smaller than the picture: the largest difference of each cell is kept, not the mean.
    factor = max(1, -(-max(height, width) // PANEL_PX))
    gap, strength = _largest(gap, factor), _largest(strength[..., None], factor)[..., 0]
    reach = float(np.percentile(strength, 99.9)) if strength.any() else 0.0
    gain = min(32.0, 255.0 / max(reach, 1.0))
    amplified = np.minimum(gap.astype(np.float32) * gain, 255).astype(np.uint8)
    panels = [_panel(_rgb(picture), factor) for picture in (frames.a, frames.b)]
    heat = _heat(panels[0], strength, gain)
    # The box is around what stands out, which after a save as JPEG is not everything that differs.
    least = max(frames.tolerance_levels, STANDS_OUT * 255.0 / gain)
    shown = strength > (least if strength.max() > least else 0)
    words = "no difference"
    if shown.any():
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
        _frame(heat, box)
        over = int(least) if strength.max() > least else 0
        words = f"where: over {over} levels in the box, at most {int(strength.max())}"
    titles = (f"A  {names[0]}", f"B  {names[1]}", f"difference x {gain:.3g}", words)
    return compose([*panels, Image.fromarray(amplified), heat], titles)


def compose(panels: list[Image.Image], titles: tuple[str, ...], columns: int = 2) -> bytes:
    """Panels in rows with a line of text above each, as PNG."""
    wide = max(160, *(panel.width for panel in panels))
    tall = max(panel.height for panel in panels) + LINE_PX
    lines = -(-len(panels) // columns)
    sheet = Image.new(
        "RGB",
        (columns * wide + (columns + 1) * GAP_PX, lines * tall + (lines + 1) * GAP_PX),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        x = GAP_PX + (number % columns) * (wide + GAP_PX)
        y = GAP_PX + (number // columns) * (tall + GAP_PX)
        draw.text((x, y), _shortened(title, draw, font, wide), fill=_INK, font=font)
        sheet.paste(panel, (x, y + LINE_PX))
    stream = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", MARK.decode("ascii"))
    sheet.save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def draw_pair(frames: Frames, names: tuple[str, str] = ("A", "B")) -> bytes:
    """PNG of two pictures that cannot be held against each other, as they are."""
    panels = []
    for picture in (frames.a, frames.b):
        factor = max(1, -(-max(picture.shape[:2]) // PANEL_PX))
        panels.append(_panel(_rgb(picture), factor))
    sizes = [f"{picture.shape[1]} x {picture.shape[0]}" for picture in (frames.a, frames.b)]
    titles = tuple(f"{letter}  {name}  {size}" for letter, name, size in zip("AB", names, sizes, strict=True))
    return compose(panels, titles)


def encode_png(picture: Any) -> bytes:
    """A Pillow image, or an array (height, width[, 1, 3 or 4]) of uint8, as a PNG without loss.

    Raises
    ------
    TypeError, ValueError
        If it is neither.
    """
    if not isinstance(picture, Image.Image):
        pixels = np.asarray(picture)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.size == 0:
            raise TypeError(f"an array of {pixels.dtype} with shape {pixels.shape}")
        if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
            raise TypeError(f"an array with {pixels.shape[2]} channels")
        picture = Image.fromarray(
            np.ascontiguousarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
        )
    stream = io.BytesIO()
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = picture.convert("RGB")
    picture.save(stream, "PNG", icc_profile=picture.info.get("icc_profile"))
    return stream.getvalue()


def draw_background(mean: Rgb, sigma: Rgb, odd: list[tuple[str, Rgb, NDArray[np.bool_]]]) -> bytes:
    """PNG: the mean of a scene, how much it varies, and each odd frame (name, picture, mask) with what is foreign."""
    panels = [Image.fromarray(mean), Image.fromarray(sigma)]
    titles = ["background: the mean of all frames", "how much each place varies (two sigma, x 4)"]
    for name, picture, mask in odd:
        grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)[..., None] * 0.5 + 90
        shown = np.where(mask[..., None], picture, grey).clip(0, 255).astype(np.uint8)
        panel = Image.fromarray(shown)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            _frame(panel, (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])))
        panels.append(panel)
        titles.append(name)
    return compose(panels, tuple(titles))


def _shortened(
    title: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, wide: int
) -> str:
    title = "".join(letter if letter.isprintable() else "?" for letter in title)
    while len(title) > 8 and draw.textlength(title, font=font) > wide:
        middle = len(title) // 2
        title = title[: middle - 2] + "…" + title[middle + 1 :]
    return title


def _rgb(picture: Plane) -> Rgb:
    colours = picture[..., :3] if picture.shape[2] >= 3 else np.repeat(picture[..., :1], 3, axis=2)
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours, np.uint8)
    found: Rgb = np.rint(np.clip(colours, 0, 255)).astype(np.uint8)
    return found


def _panel(pixels: Rgb, factor: int) -> Image.Image:
    image = Image.fromarray(pixels)
    return image if factor == 1 else image.reduce(factor)


def _largest(values: Rgb, factor: int) -> Rgb:
    """The largest value of each cell of `factor` x `factor`, cut cells included."""
    if factor == 1:
        return values
    rows = np.maximum.reduceat(values, np.arange(0, values.shape[0], factor), axis=0)
    found: Rgb = np.maximum.reduceat(rows, np.arange(0, values.shape[1], factor), axis=1)
    return found


def _heat(panel: Image.Image, strength: Rgb, gain: float) -> Image.Image:
    """Grey where nothing differs; from yellow to red where much does."""
    grey = np.asarray(panel.convert("L"), np.float32)[..., None] * 0.6 + 70
    share = np.minimum(strength.astype(np.float32) * gain / 255, 1.0)[..., None]
    hot = np.concatenate((np.full_like(share, 255), 220 * (1 - share), np.zeros_like(share)), axis=2)
    cover = np.where(share >= FAINT, 0.25 + 0.75 * share, 0)
    return Image.fromarray((grey * (1 - cover) + hot * cover).clip(0, 255).astype(np.uint8))


def _frame(image: Image.Image, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    margin = 3
    edge = (
        max(0, left - margin),
        max(0, top - margin),
        min(image.width - 1, right + margin),
        min(image.height - 1, bottom + margin),
    )
    ImageDraw.Draw(image).rectangle(edge, outline=_BOX, width=2)
