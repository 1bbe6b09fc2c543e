"""What one more save makes of pixels: encoded with another file's tables and decoded again, in memory.

Promises: the same quantisation tables, sampling of colour and orientation as the file had that is imitated. Does not:
write a file, or imitate anything but a JPEG of grey or three colours.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from dedup.decode import colour, jpeg
from dedup.decode.picture import FullPicture, Pixels

_ZIGZAG = sorted(
    range(64), key=lambda at: (sum(divmod(at, 8)), at // 8 if sum(divmod(at, 8)) % 2 else -(at // 8))
)
"""Place (row by row) of each step of a table in zigzag order: diagonal by diagonal, each in turn downwards and up."""
_TURNED_BACK = {6: 8, 8: 6}


def save_like(pixels: Pixels, like: FullPicture) -> Pixels | None:
    """`pixels` as they come back from a JPEG with the quantisation tables of `like`.

    Parameters
    ----------
    pixels : (height, width, 3) uint8
        Upright samples as stored, of any size.
    like
        A decoded JPEG; its orientation says on which grid of blocks a file of it is stored.

    Returns
    -------
    (height, width, 3) uint8, upright; None where `like` is no JPEG that can be imitated.
    """
    tables, grey = like.quantisation, like.info.mode == "L"
    if not tables or len(tables) > 2 or like.info.format not in ("JPEG", "MPO") or like.info.bits != 8:
        return None
    if not grey and (like.info.mode != "RGB" or like.sampling is None):
        return None
    if any(step > 255 for table in tables for step in table):
        return None
    turned = colour.upright(pixels, _TURNED_BACK.get(like.info.orientation, like.info.orientation))
    image = Image.fromarray(np.ascontiguousarray(turned[..., 0] if grey else turned))
    stream = io.BytesIO()
    options = {} if grey else {"subsampling": like.sampling}
    image.save(stream, "JPEG", qtables=[_in_rows(table) for table in tables], **options)
    data = stream.getvalue()
    samples, _ = jpeg.decode_jpeg(data, jpeg.read_header(data))
    if samples.shape[2] == 1:
        samples = np.repeat(samples, 3, axis=2)
    return np.ascontiguousarray(colour.upright(samples, like.info.orientation))


def _in_rows(table: tuple[int, ...]) -> list[int]:
    """64 steps in zigzag order, row by row as Pillow takes them."""
    found = [0] * 64
    for step, place in zip(table, _ZIGZAG, strict=True):
        found[place] = step
    return found
