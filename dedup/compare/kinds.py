"""Every measure by name: its unit, what it means, what it is blind to, and how much work it is.

Does not: measure.
"""

from __future__ import annotations

from dataclasses import dataclass

KL_THRESHOLD = 0.2
"""Above it two frames differ suddenly: Courbon et al., Similarity of consecutive frames, 2010, for grey histograms."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to know about a measure before it is taken."""

    unit: str
    meaning: str
    blind_to: str
    family: str
    """Who takes it: `files`, `levels`, `histograms`, `structure` or `features`."""


KINDS: dict[str, Kind] = {
    # --- the files ----------------------------------------------------------------------------------------------
    "digest": Kind("", "the sha256 of the files is equal", "everything but equality of bytes", "files"),
    "bytes": Kind(
        "bytes",
        "places at which the files differ byte for byte, and what one is longer",
        "what the bytes mean: metadata alone makes them differ",
        "files",
    ),
    "same-pixels": Kind(
        "",
        "all decoded pixels are equal as stored: alpha, depth, profile and further frames too",
        "how far they differ if they do",
        "files",
    ),
    "shape": Kind(
        "",
        "width, height and bands are the same, so that pixels can be held against pixels",
        "what the pictures show",
        "files",
    ),
    "shot": Kind(
        "",
        "share of what the files say of the shot (time, place, camera) that agrees",
        "the pixels: frames of a burst agree, and a file may say anything; never a proof",
        "files",
    ),
    "resave": Kind(
        "levels",
        "RMS of B against A compressed with B's own JPEG tables: 0 if B is A saved again by such an encoder",
        "saves by other encoders, after resizing, or of a JPEG with another sampling of colour",
        "files",
    ),
    "canonical": Kind(
        "levels",
        "RMS after both are saved by the same encoder (Pillow's JPEG, quality 75)",
        "what that save takes away, as fine noise; and where the rest is",
        "files",
    ),
    # --- pixel against pixel ------------------------------------------------------------------------------------
    "box": Kind(
        "share",
        "share of the frame inside the smallest box that holds every difference",
        "how much differs inside: two far corners make the box whole",
        "levels",
    ),
    "l1": Kind(
        "levels",
        "Manhattan norm: mean absolute difference per pixel and band (and the total)",
        "where, and whether many pixels differ a little or a few differ much",
        "levels",
    ),
    "l0": Kind(
        "share",
        "zero norm: share of the pixels that differ by more than the tolerance in any band",
        "by how much: saving again as JPEG touches nearly all of them",
        "levels",
    ),
    "sad": Kind(
        "levels",
        "sum of absolute differences, band by band",
        "the size of the picture, with which it grows; and where",
        "levels",
    ),
    "rms": Kind(
        "levels",
        "root mean square difference per band, alpha included where there is any (and as Euclidean distance)",
        "where: a changed word on a page weighs as much as a save at quality 90",
        "levels",
    ),
    "rms-lab": Kind(
        "delta E",
        "root mean square distance in CIELAB (D65), where 2.3 is a difference one just sees",
        "where; and shades beyond sRGB",
        "levels",
    ),
    "psnr": Kind(
        "dB",
        "peak signal to noise: RMS on a logarithmic scale, 255 levels at the peak; infinite for equal pixels",
        "the same as rms; a bright picture and a dark one are measured alike",
        "levels",
    ),
    "ssim": Kind(
        "",
        "structural similarity of luma, 1 for equal pictures (Wang et al. 2004, Gaussian of 1.5 px)",
        "colour; a shift of one pixel lowers it more than a visible tint",
        "levels",
    ),
    "tile": Kind(
        "levels",
        "the worst 8 px tile: Euclidean length of its mean absolute differences in RGB",
        "spread-out changes: one tile speaks for the picture",
        "levels",
    ),
    # --- histograms ---------------------------------------------------------------------------------------------
    "hist-rms": Kind(
        "share",
        "RMS of the two histograms of 256 bins per band as shares of all pixels (raw: as counts)",
        "place: shuffled pixels have the same histogram; the raw figure grows with the picture",
        "histograms",
    ),
    "kl": Kind(
        "nats",
        "symmetric Kullback-Leibler distance of the luma histograms, the mean of both ways; "
        f"{KL_THRESHOLD} is a sudden change",
        "place and colour; a slight change of brightness can be far for it, since bins know no neighbours",
        "histograms",
    ),
    "js": Kind(
        "nats",
        "Jensen-Shannon divergence of the luma histograms, 0 to 0.693",
        "place and colour, as kl; but never infinite",
        "histograms",
    ),
    "chi2": Kind(
        "",
        "chi-squared distance of the luma histograms, 0 to 1",
        "place and colour; how far apart differing levels are",
        "histograms",
    ),
    "emd": Kind(
        "levels",
        "earth mover's distance of the luma histograms: how far levels move on average",
        "place and colour",
        "histograms",
    ),
    "colours": Kind(
        "",
        "Hellinger distance of the colour histograms (64 bins of hue, saturation, value), 0 to 1",
        "place, and shades within a bin",
        "features",
    ),
    # --- structure ----------------------------------------------------------------------------------------------
    "sobel": Kind(
        "share",
        "edges (Sobel, over 16 levels a pixel) that only one of the two has, of all edges; one pixel off is no matter",
        "colour, soft changes, and what has no edge",
        "structure",
    ),
    "prewitt": Kind(
        "share",
        "as sobel, with Prewitt's plainer mask",
        "colour, soft changes, and what has no edge",
        "structure",
    ),
    "whiten": Kind(
        "levels",
        "RMS after whitening (Olshausen's filter with Atick's low-pass: f0 0.78, alpha 4, N 0.01): detail counts most",
        "slow changes of light and tone",
        "structure",
    ),
    "phase": Kind(
        "px",
        "how far B is shifted against A by phase correlation (dx right, dy down; peak 1 for a pure shift)",
        "turns, scale, and pictures without structure",
        "structure",
    ),
    "exposure": Kind(
        "levels",
        "how far the best gain and offset (B = gain x A + offset) move the levels of A",
        "anything but brightness and contrast",
        "structure",
    ),
    "noise": Kind(
        "levels",
        "difference of the noise of the two (sigma of a Gaussian, Immerkaer 1996)",
        "what the pictures show; fine texture counts as noise",
        "structure",
    ),
    "flow": Kind(
        "px",
        "median motion of corners that can be followed from A to B (sparse Lucas-Kanade)",
        "plain areas, and motion of more than a tenth of the frame",
        "structure",
    ),
    # --- what a scan looks at -----------------------------------------------------------------------------------
    "ahash": Kind("bits", "average hash, of 64 bits", "detail; flat pictures hash alike", "features"),
    "phash": Kind(
        "bits",
        "perceptual hash (cosine transform), of 64 bits",
        "small edits; flat pictures hash alike",
        "features",
    ),
    "phash-simple": Kind(
        "bits",
        "perceptual hash of rows only, of 64 bits",
        "small edits, columns; flat pictures hash alike",
        "features",
    ),
    "dhash": Kind(
        "bits", "difference hash along rows, of 64 bits", "colour; flat pictures hash alike", "features"
    ),
    "dhash-vertical": Kind(
        "bits", "difference hash along columns, of 64 bits", "colour; flat pictures hash alike", "features"
    ),
    "whash": Kind(
        "bits", "wavelet hash (Haar), of 64 bits", "detail; very different pictures come near", "features"
    ),
    "whash-db4": Kind(
        "bits", "wavelet hash (Daubechies 4), 14 x 14 = 196 bits", "detail; as whash", "features"
    ),
    "colorhash": Kind(
        "bits",
        "colour hash of imagehash, of 42 bits",
        "place; takes blue for black, and has a gap in saturation",
        "features",
    ),
    "crop-hash": Kind(
        "bits",
        "crop-resistant hash: total distance of the segments that find a like one",
        "segments that only one has; pictures of few segments",
        "features",
    ),
    "phash256": Kind("bits", "perceptual hash, of 256 bits", "small edits", "features"),
    "vector": Kind(
        "",
        "cosine distance of the feature vectors (hash and colours) that annoy is asked with, 0 to 2",
        "small edits, turns and crops",
        "features",
    ),
}
"""In the order in which they are shown."""

FAMILIES = ("files", "levels", "histograms", "structure", "features")


def choose_names(asked: tuple[str, ...]) -> tuple[str, ...]:
    """The measures that these words name, in the order of `KINDS`: names, families, `hashes` or `all`.

    Raises
    ------
    KeyError
        With the word that names nothing.
    """
    found: set[str] = set()
    for word in asked:
        if word == "all":
            found.update(KINDS)
        elif word == "hashes":
            found.update(name for name in KINDS if "hash" in name)
        elif word in FAMILIES:
            found.update(name for name, kind in KINDS.items() if kind.family == word)
        elif word in KINDS:
            found.add(word)
        else:
            raise KeyError(word)
    return tuple(name for name in KINDS if name in found)
