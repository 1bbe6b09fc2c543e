"""Every measure against an independent value: scikit-image, SciPy, Pillow, or arrays small enough to count by hand."""

from __future__ import annotations

import io
import math
from typing import Any

import imagehash
import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageChops
from scipy import ndimage, stats
from scipy.spatial import distance

from dedup.compare import KINDS, choose_names, measure_frames
from dedup.compare.files import as_layer, canonical, differing_bytes, resave, same_pixels, shape, shot
from dedup.compare.frames import Frames, Layer, Placing, noise_sigma, prepare, to_luma
from dedup.compare.histograms import SMOOTHING
from dedup.compare.levels import to_lab
from dedup.compare.motion import follow, summarise
from dedup.compare.structure import EDGE_LEVELS, gradient, whitened_rms, whitening_filter
from dedup.decode import FullPicture, read_full
from dedup.fingerprint import HASH_KINDS, hash_distances
from dedup.records import Measure, Metadata, Preparation
from tests.pictures import as_floats, encode, jpeg, real_photo, scaled

THEIRS: Any = skimage
"""Its functions are not annotated."""

Rgb = NDArray[np.uint8]
PIXEL_NAMES = [name for name, kind in KINDS.items() if kind.family in ("levels", "histograms", "structure")]


def framed(a: NDArray[Any], b: NDArray[Any], **asked: Any) -> Frames:
    """Two arrays (height, width, 1, 3 or 4) as they would be measured."""

    def layer(pixels: NDArray[Any]) -> Layer:
        alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
        return Layer(np.ascontiguousarray(pixels[..., :3]), alpha)

    return prepare(layer(a), layer(b), Preparation(**asked), None)


def measured(a: NDArray[Any], b: NDArray[Any], *names: str, **asked: Any) -> dict[str, Measure]:
    frames = framed(a, b, **asked)
    return {measure.name: measure for measure in measure_frames(frames, names or PIXEL_NAMES)}


def one(a: NDArray[Any], b: NDArray[Any], name: str, **asked: Any) -> Measure:
    return measured(a, b, name, **asked)[name]


def number(measure: Measure) -> float:
    assert measure.value is not None, measure.note
    return float(measure.value)


def part(measure: Measure, name: str) -> Any:
    return dict(measure.parts)[name]


@pytest.fixture(scope="module")
def photo() -> Rgb:
    return np.asarray(real_photo("coffee", 400)).copy()


@pytest.fixture(scope="module")
def saved(photo: Rgb) -> Rgb:
    return np.asarray(Image.open(io.BytesIO(jpeg(Image.fromarray(photo), 40)))).copy()


@pytest.fixture(scope="module")
def cat() -> Rgb:
    return np.asarray(real_photo("chelsea", 400).resize((400, 267))).copy()


# ---- identical, flat, one bright pixel -----------------------------------------------------------------------------

ONES = {"ssim"}
INFINITE = {"psnr"}


@pytest.mark.parametrize(
    "preparation",
    [
        {},
        {"grey": "luma"},
        {"grey": "average", "normalise": "percentile"},
        {"normalise": "min-max"},
        {"denoise": "gaussian"},
        {"denoise": "median"},
        {"align": True},
        {"resize": True},
    ],
)
@pytest.mark.parametrize("kind", ["photo", "flat", "bright pixel", "alpha", "deep", "tiny"])
def test_identical_pictures_give_exact_zeros(photo: Rgb, kind: str, preparation: dict[str, Any]) -> None:
    picture: NDArray[Any] = {
        "photo": photo,
        "flat": np.full((60, 80, 3), 77, np.uint8),
        "bright pixel": _bright_pixel(),
        "alpha": np.dstack([photo, photo[..., 0]]),
        "deep": photo.astype(np.float32) * np.float32(0.937),
        "tiny": photo[:1, :1],
    }[kind]
    for name, measure in measured(picture, picture.copy(), **preparation).items():
        if name in ONES:
            assert measure.value == 1.0, name
        elif name in INFINITE:
            assert measure.value is None and "infinite" in measure.note
        else:
            assert measure.value == 0.0, (name, measure.value)


def _bright_pixel() -> Rgb:
    picture = np.full((60, 80, 3), 10, np.uint8)
    picture[30, 40] = 255
    return picture


def test_two_flat_pictures_have_numbers_where_there_are_any_and_reasons_where_not() -> None:
    dark, light = np.full((60, 80, 3), 40, np.uint8), np.full((60, 80, 3), 60, np.uint8)
    found = measured(dark, light)
    assert number(found["rms"]) == number(found["l1"]) == 20
    assert number(found["emd"]) == 20
    assert number(found["chi2"]) == 1
    assert number(found["js"]) == pytest.approx(math.log(2))
    assert found["phase"].value is None and "flat" in found["phase"].note
    assert found["flow"].value is None and "corner" in found["flow"].note
    assert number(found["exposure"]) == pytest.approx(20) and part(found["exposure"], "gain") is None
    assert number(found["sobel"]) == 0 and "neither has an edge" in found["sobel"].note
    for measure in found.values():
        assert measure.value is None or math.isfinite(float(measure.value)), measure


@pytest.mark.parametrize("kind", ["percentile", "min-max"])
def test_a_flat_picture_is_not_stretched(kind: str) -> None:
    flat = np.full((60, 80, 3), 77, np.uint8)
    frames = framed(flat, flat + 3, normalise=kind)
    assert frames.a.min() == frames.a.max() == 77
    assert any("flat" in words for words in frames.done)
    assert number(one(flat, flat + 3, "l1", normalise=kind)) == 3


def test_one_bright_pixel_ruins_min_max_and_leaves_percentiles_alone() -> None:
    chance = np.random.default_rng(3)
    dark = chance.integers(10, 40, (100, 100, 3)).astype(np.uint8)
    spoiled = dark.copy()
    spoiled[50, 50] = 255
    assert number(one(dark, spoiled, "l1", normalise="percentile")) < 0.1
    assert number(one(dark, spoiled, "l1", normalise="min-max")) > 80
    found = measured(dark, spoiled)
    assert part(found["l0"], "count") == 1 and part(found["box"], "left") == 50


def test_min_max_is_what_the_thread_wrote(photo: Rgb, saved: Rgb) -> None:
    def normalize(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((values - values.min()) * 255 / (values.max() - values.min()))

    a, b = (picture.astype(float).mean(axis=2) for picture in (photo, saved))
    wanted = np.abs(normalize(a) - normalize(b))
    found = measured(photo, saved, "l1", "l0", grey="average", normalise="min-max")
    assert number(found["l1"]) == pytest.approx(wanted.mean(), rel=1e-4)


# ---- pixel against pixel -------------------------------------------------------------------------------------------


def test_norms_counted_by_hand() -> None:
    a = np.zeros((10, 20, 3), np.uint8)
    b = a.copy()
    b[3, 4] = (10, 0, 0)
    b[7, 15] = (0, 20, 255)
    found = measured(a, b, "l1", "l0", "sad", "box", "rms", "tile")
    assert part(found["l1"], "total") == 285 and number(found["l1"]) == 285 / 600
    assert part(found["l1"], "per_pixel") == 285 / 200
    assert number(found["l0"]) == 2 / 200 and part(found["l0"], "largest_levels") == 255
    assert number(found["sad"]) == 285
    assert [part(found["sad"], band) for band in "RGB"] == [10, 20, 255]
    assert [part(found["box"], side) for side in ("left", "top", "right", "bottom")] == [4, 3, 16, 8]
    assert number(found["box"]) == 12 * 5 / 200
    assert part(found["rms"], "euclidean") == math.sqrt((100 + 400 + 255**2) / 200)
    assert number(found["rms"]) == math.sqrt((100 + 400 + 255**2) / 600)
    assert number(found["tile"]) == pytest.approx(math.hypot(20, 255) / 64)
    assert [part(found["tile"], side) for side in ("left", "top")] == [8, 0]


def test_a_tolerance_leaves_small_differences_out_of_zero_norm_and_box() -> None:
    a = np.full((10, 10, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0], b[5, 5] = 104, 120
    found = measured(a, b, "l0", "box", tolerance_levels=4)
    assert part(found["l0"], "count") == 1 and part(found["l0"], "count_without_tolerance") == 2
    assert part(found["box"], "left") == 5
    assert number(one(a, b, "l0", tolerance_levels=3.5)) == 0.02


def test_norms_are_those_of_numpy(photo: Rgb, cat: Rgb) -> None:
    gap = photo.astype(int) - cat
    found = measured(photo, cat, "l1", "l0", "sad", "rms")
    assert part(found["l1"], "total") == np.abs(gap).sum()
    assert part(found["l0"], "count") == np.count_nonzero(np.abs(gap).max(axis=2))
    assert [part(found["sad"], band) for band in "RGB"] == list(np.abs(gap).sum(axis=(0, 1)))
    assert number(found["rms"]) == pytest.approx(np.sqrt((gap**2).mean()), rel=1e-12)
    assert part(found["rms"], "euclidean") == pytest.approx(np.sqrt((gap**2).sum(axis=2).mean()), rel=1e-12)


def test_the_box_is_pillows(photo: Rgb) -> None:
    other = photo.copy()
    other[40:90, 100:180, 1] ^= 3
    found = one(photo, other, "box")
    wanted = ImageChops.difference(Image.fromarray(photo), Image.fromarray(other)).getbbox()
    assert tuple(part(found, side) for side in ("left", "top", "right", "bottom")) == wanted


def test_alpha_is_a_band_of_its_own(photo: Rgb) -> None:
    solid = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    clear = solid.copy()
    clear[..., 3] = 155
    found = measured(solid, clear, "rms", "sad", "l0", "l1")
    assert part(found["rms"], "bands") == "RGBA" and part(found["rms"], "A") == 100
    assert number(found["rms"]) == 50  # 100 in one of four bands
    assert part(found["sad"], "A") == 100 * photo.shape[0] * photo.shape[1]
    assert number(one(photo, clear, "rms")) == 50  # an opaque picture has full alpha


def test_the_rms_of_black_against_white_is_255() -> None:
    black, white = np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)
    assert number(one(black, white, "rms")) == 255
    assert number(one(black, white, "rms-lab")) == pytest.approx(100, abs=0.01)


def test_cielab_is_that_of_scikit_image(photo: Rgb, saved: Rgb) -> None:
    assert np.abs(to_lab(photo) - THEIRS.color.rgb2lab(photo)).max() < 0.02
    wanted = THEIRS.color.deltaE_cie76(THEIRS.color.rgb2lab(photo), THEIRS.color.rgb2lab(saved))
    found = one(photo, saved, "rms-lab")
    assert number(found) == pytest.approx(np.sqrt((wanted**2).mean()), rel=1e-3)
    assert part(found, "mean") == pytest.approx(wanted.mean(), rel=1e-3)
    assert part(found, "largest") == pytest.approx(wanted.max(), rel=1e-3)
    deep = photo.astype(np.float32)
    assert np.abs(to_lab(deep) - THEIRS.color.rgb2lab(photo)).max() < 0.02


def test_psnr_is_that_of_scikit_image(photo: Rgb, saved: Rgb) -> None:
    wanted = THEIRS.metrics.peak_signal_noise_ratio(photo, saved, data_range=255)
    assert number(one(photo, saved, "psnr")) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("height", [11, 30, 255, 256, 257, 267])
def test_ssim_is_that_of_scikit_image(photo: Rgb, saved: Rgb, height: int) -> None:
    a, b = photo[:height], saved[:height]
    wanted = THEIRS.metrics.structural_similarity(
        to_luma(a).astype(float), to_luma(b).astype(float), data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert number(one(a, b, "ssim")) == pytest.approx(wanted, rel=1e-6)


def test_a_picture_smaller_than_its_window_has_no_ssim() -> None:
    small = np.zeros((10, 40, 3), np.uint8)
    assert "11 px" in one(small, small + 1, "ssim").note


def test_the_worst_tile_is_where_the_difference_is(photo: Rgb) -> None:
    other = photo.copy()
    other[256:264, 392:400] = 255 - other[256:264, 392:400]
    found = one(photo, other, "tile")
    tile = np.abs(photo[256:264, 392:400].astype(float) - other[256:264, 392:400]).mean(axis=(0, 1))
    assert number(found) == pytest.approx(np.linalg.norm(tile), rel=1e-5)
    assert (part(found, "left"), part(found, "top")) == (392, 256)


# ---- histograms ----------------------------------------------------------------------------------------------------


def test_histogram_rms_is_the_threads_own_raw_and_normalised(photo: Rgb, saved: Rgb) -> None:
    h1, h2 = (Image.fromarray(picture).histogram() for picture in (photo, saved))
    raw = math.sqrt(sum((a - b) ** 2 for a, b in zip(h1, h2, strict=True)) / len(h1))
    found = one(photo, saved, "hist-rms")
    assert part(found, "raw") == pytest.approx(raw, rel=1e-12)
    assert number(found) == pytest.approx(raw / (photo.shape[0] * photo.shape[1]), rel=1e-12)


def test_normalised_histogram_rms_does_not_grow_with_the_picture(photo: Rgb, saved: Rgb) -> None:
    four = [np.tile(picture, (2, 2, 1)) for picture in (photo, saved)]
    once, tiled = one(photo, saved, "hist-rms"), one(four[0], four[1], "hist-rms")
    assert number(tiled) == pytest.approx(number(once), rel=1e-12)
    assert part(tiled, "raw") == pytest.approx(4 * part(once, "raw"), rel=1e-12)


def luma_shares(picture: Rgb, extra: float = 0.0) -> NDArray[np.float64]:
    luma = np.rint(picture @ np.array([0.299, 0.587, 0.114])).astype(int)
    counts = np.histogram(luma, bins=np.arange(257) - 0.5)[0] + extra
    return np.asarray(counts / counts.sum())


def test_kullback_leibler_is_scipys_entropy(photo: Rgb, cat: Rgb) -> None:
    p, q = luma_shares(photo, SMOOTHING), luma_shares(cat, SMOOTHING)
    found = one(photo, cat, "kl")
    # Our luma is in single precision: a pixel in a hundred thousand rounds to the neighbouring level.
    assert part(found, "a_to_b") == pytest.approx(stats.entropy(p, q), rel=1e-3)
    assert part(found, "b_to_a") == pytest.approx(stats.entropy(q, p), rel=1e-3)
    assert number(found) == pytest.approx((stats.entropy(p, q) + stats.entropy(q, p)) / 2, rel=1e-3)
    assert part(found, "threshold") == 0.2 and "beyond the 0.2" in found.note


def test_jensen_shannon_chi_squared_and_earth_mover_are_scipys(photo: Rgb, cat: Rgb) -> None:
    p, q = luma_shares(photo), luma_shares(cat)
    found = measured(photo, cat, "js", "chi2", "emd")
    assert part(found["js"], "root") == pytest.approx(distance.jensenshannon(p, q), rel=1e-3)
    assert number(found["js"]) == pytest.approx(distance.jensenshannon(p, q) ** 2, rel=1e-3)
    levels = np.arange(256)
    assert number(found["emd"]) == pytest.approx(stats.wasserstein_distance(levels, levels, p, q), rel=1e-3)
    some = (p + q) > 0
    assert number(found["chi2"]) == pytest.approx((((p - q)[some] ** 2) / (p + q)[some]).sum() / 2, rel=1e-3)


def test_histograms_do_not_see_places_and_compare_any_sizes(photo: Rgb) -> None:
    for name in ("hist-rms", "kl", "js", "chi2", "emd"):
        assert number(one(photo, photo[::-1, ::-1].copy(), name)) == 0
        half = np.asarray(scaled(Image.fromarray(photo), 0.5))
        found = one(photo, half, name)
        assert 0 < number(found) < {"emd": 3.0}.get(name, 0.1)


# ---- structure -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sobel", "prewitt"])
def test_gradients_are_those_of_scikit_image(photo: Rgb, kind: str) -> None:
    luma = to_luma(photo)
    # Theirs is the root of the mean of the two squares, of whole differences over two pixels.
    wanted = getattr(THEIRS.filters, kind)(luma.astype(float), mode="nearest") / math.sqrt(2)
    assert np.abs(gradient(luma, kind) - wanted).max() < 1e-3


@pytest.mark.parametrize("kind", ["sobel", "prewitt"])
def test_edges_counted_independently(photo: Rgb, saved: Rgb, kind: str) -> None:
    find = getattr(THEIRS.filters, kind)
    lengths = [find(to_luma(p).astype(float), mode="nearest") / math.sqrt(2) for p in (photo, saved)]
    on = [length > EDGE_LEVELS for length in lengths]
    near = [ndimage.maximum_filter(mask, 3, mode="constant") for mask in on]
    lost, new = (on[0] & ~near[1]).sum(), (on[1] & ~near[0]).sum()
    found = one(photo, saved, kind)
    assert number(found) == pytest.approx((lost + new) / (on[0].sum() + on[1].sum()), abs=1e-4)


def test_edges_ignore_one_pixel_and_brightness_but_not_another_picture(photo: Rgb, cat: Rgb) -> None:
    bar = np.zeros((80, 80, 3), np.uint8)
    bar[:, 40:] = 200
    moved = np.roll(bar, 1, axis=1)
    moved[:, 0] = 0
    assert number(one(bar, moved, "sobel")) == 0
    assert number(one(bar, np.maximum(bar, 30), "sobel")) == 0
    far = np.zeros((80, 80, 3), np.uint8)
    far[:, 60:] = 200
    assert number(one(bar, far, "sobel")) == 1
    assert number(one(photo, cat, "sobel")) > 0.5


def olshausen(
    size: tuple[int, int], f_0: float = 0.78, alpha: float = 4.0, n: float = 0.01
) -> NDArray[np.float64]:
    """As the thread has it."""
    fx, fy = np.mgrid[-1 : 1 : 1j * size[0], -1 : 1 : 1j * size[1]]
    rho = np.sqrt(fx**2 + fy**2)
    k = (n**2 + rho**2) ** 0.5 * np.exp(-((rho / f_0) ** alpha))
    return np.asarray(k / np.max(k))


def test_whitening_is_the_threads_filter(photo: Rgb, saved: Rgb) -> None:
    # With an odd number of places that code is symmetric, and right but for a stretch of n / (n - 1).
    a, b = to_luma(photo[:265, :399]), to_luma(saved[:265, :399])

    def filtered(values: NDArray[np.float32]) -> NDArray[np.float64]:
        spectrum = np.fft.fftshift(np.fft.fft2(values)) * olshausen((265, 399))
        return np.real(np.fft.ifft2(np.fft.ifftshift(spectrum)))

    wanted = np.sqrt(((filtered(a) - filtered(b)) ** 2).mean())
    assert number(one(photo[:265, :399], saved[:265, :399], "whiten")) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("shape", [(40, 60), (41, 61), (40, 61), (7, 1), (1, 1)])
def test_whitened_rms_is_that_of_the_way_back(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(5).normal(100, 20, shape).astype(np.float32)
    down = 2 * np.fft.fftfreq(shape[0])[:, None]
    right = 2 * np.fft.fftfreq(shape[1])[None, :]
    rho = np.hypot(down, right)
    gain = np.sqrt(0.01**2 + rho**2) * np.exp(-((rho / 0.78) ** 4))
    back = np.real(np.fft.ifft2(np.fft.fft2(values) * gain / gain.max()))
    assert whitened_rms(values) == pytest.approx(np.sqrt((back**2).mean()), rel=1e-4)
    assert whitening_filter(shape).max() == pytest.approx(1)


def test_whitening_sees_lost_detail_and_not_light(photo: Rgb) -> None:
    soft = ndimage.gaussian_filter(photo, (1, 1, 0))
    ramp = photo.astype(float) + np.linspace(0, 30, photo.shape[1])[None, :, None]
    lit = np.minimum(ramp, 255).astype(np.uint8)
    assert number(one(photo, lit, "rms")) > number(one(photo, soft, "rms"))
    assert number(one(photo, lit, "whiten")) < number(one(photo, soft, "whiten")) / 3


@pytest.mark.parametrize("shift", [(0, 12), (7, 0), (-9, 20), (30, -41)])
def test_phase_correlation_is_that_of_scikit_image(photo: Rgb, shift: tuple[int, int]) -> None:
    big = np.asarray(real_photo("coffee", 600))
    dy, dx = shift
    a = big[60:340, 80:500]
    b = big[60 - dy : 340 - dy, 80 - dx : 500 - dx]
    found = one(a, b, "phase")
    wanted = THEIRS.registration.phase_cross_correlation(to_luma(b), to_luma(a))[0]
    assert (part(found, "dy"), part(found, "dx")) == tuple(wanted) == shift
    assert number(found) == pytest.approx(math.hypot(*shift))
    overlap = (a.shape[0] - abs(dy)) * (a.shape[1] - abs(dx)) / (a.shape[0] * a.shape[1])
    assert part(found, "overlap") == pytest.approx(overlap)
    assert part(found, "peak") > 0.1


def test_a_pure_shift_has_a_peak_of_one(photo: Rgb) -> None:
    found = one(photo, np.roll(photo, (5, -8), (0, 1)), "phase")
    assert (part(found, "dy"), part(found, "dx")) == (5, -8)
    assert part(found, "peak") == pytest.approx(1, abs=0.1)


def test_unrelated_pictures_have_a_peak_that_means_little(photo: Rgb, cat: Rgb) -> None:
    assert "means little" in one(photo, cat, "phase").note


def test_exposure_is_a_straight_line_through_the_levels(photo: Rgb) -> None:
    other = np.clip(photo * 0.8 + 20, 0, 255).astype(np.uint8)
    found = one(photo, other, "exposure")
    wanted = np.polyfit(to_luma(photo).ravel().astype(float), to_luma(other).ravel().astype(float), 1)
    assert part(found, "gain") == pytest.approx(wanted[0], rel=1e-6)
    assert part(found, "offset") == pytest.approx(wanted[1], rel=1e-4)
    left = to_luma(other) - np.polyval(wanted, to_luma(photo))
    assert part(found, "left") == pytest.approx(np.sqrt((left**2).mean()), rel=1e-3)


@pytest.mark.parametrize("sigma", [2.0, 8.0, 20.0])
def test_noise_is_estimated(sigma: float) -> None:
    values = np.random.default_rng(7).normal(128, sigma, (300, 400)).astype(np.float32)
    assert noise_sigma(values) == pytest.approx(sigma, rel=0.03)
    slope = (np.arange(400)[None, :] / 4 + np.zeros((300, 1))).astype(np.float32)
    assert noise_sigma((values - 128 + slope).astype(np.float32)) == pytest.approx(sigma, rel=0.03)
    assert noise_sigma(slope) < 1e-3


# ---- motion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [(0.0, 4.0), (3.0, -6.0), (2.5, 1.25), (-14.0, 20.0)])
def test_corners_are_followed_to_where_they_went(shift: tuple[float, float]) -> None:
    luma = to_luma(np.asarray(real_photo("coffee", 600)))
    dy, dx = shift
    moved = ndimage.shift(luma, (dy, dx), order=3, mode="nearest")
    points, moves = follow(luma, moved)
    assert len(points) > 60
    error = np.hypot(moves[:, 0] - dx, moves[:, 1] - dy)
    assert np.median(error) < 0.1 and np.percentile(error, 90) < 0.5


def test_motion_agrees_with_dense_flow_of_scikit_image() -> None:
    luma = to_luma(np.asarray(real_photo("chelsea", 320))) / 255
    turned = ndimage.rotate(luma, 1.0, reshape=False, order=3, mode="nearest")
    down, right = THEIRS.registration.optical_flow_ilk(luma, turned, radius=9)
    points, moves = follow(luma.astype(np.float32) * 255, turned.astype(np.float32) * 255)
    # Their flow is where each pixel of the first is found in the second.
    x, y = points.astype(int).T
    error = np.hypot(moves[:, 0] - right[y, x], moves[:, 1] - down[y, x])
    assert len(points) > 40 and np.median(error) < 0.3


def moved_words(first: NDArray[np.float32], second: NDArray[np.float32]) -> str:
    return summarise(*follow(first, second)).words


def test_a_moved_camera_is_told_from_a_moved_subject() -> None:
    scene = to_luma(np.asarray(real_photo("coffee", 600)))
    subject = to_luma(np.asarray(real_photo("astronaut", 512)))[50:250, 150:350]
    here, there, panned = scene.copy(), scene.copy(), np.roll(scene, 6, axis=1)
    here[100:300, 200:400] = subject
    there[100:300, 212:412] = subject
    panned[100:300, 225:425] = subject
    assert moved_words(scene, scene + 1) == "nothing moved"
    assert moved_words(scene, np.roll(scene, (3, 8), (0, 1))) == "the camera moved"
    assert moved_words(here, there) == "the subject moved, the camera did not"
    assert moved_words(here, panned) == "the camera moved, and the subject too"


def test_a_zoom_and_a_turn_are_the_camera() -> None:
    scene = to_luma(np.asarray(real_photo("coffee", 600)))
    centre = np.array(scene.shape) / 2
    for matrix in (np.eye(2) / 1.03, np.array([[0.9995, 0.03], [-0.03, 0.9995]])):
        second = ndimage.affine_transform(scene, matrix, centre - matrix @ centre, order=3, mode="nearest")
        assert moved_words(scene, second.astype(np.float32)) == "the camera moved"


def test_plain_pictures_have_nothing_to_follow() -> None:
    flat = np.full((200, 300), 90, np.float32)
    assert len(follow(flat, flat)[0]) == 0
    assert summarise(*follow(flat, flat)).words == "too few corners to tell"


# ---- hashes --------------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Any] = {
    "ahash": imagehash.average_hash,
    "phash": imagehash.phash,
    "phash-simple": imagehash.phash_simple,
    "dhash": imagehash.dhash,
    "dhash-vertical": imagehash.dhash_vertical,
    "whash": imagehash.whash,
    "whash-db4": lambda image: imagehash.whash(image, mode="db4"),
    "colorhash": imagehash.colorhash,
}


def test_every_hash_is_imagehashs_own(photo: Rgb, cat: Rgb) -> None:
    found = hash_distances(photo, cat)
    assert set(found) == set(HASH_KINDS)
    for name, function in FUNCTIONS.items():
        assert found[name][0] == function(Image.fromarray(photo)) - function(Image.fromarray(cat)), name
    assert {name: bits for name, (_, bits) in found.items() if name != "crop-hash"} == {
        **dict.fromkeys(("ahash", "phash", "phash-simple", "dhash", "dhash-vertical", "whash"), 64),
        "whash-db4": 196,
        "colorhash": 42,
    }
    first, second = (imagehash.crop_resistant_hash(Image.fromarray(p)) for p in (photo, photo[20:, 30:]))
    assert hash_distances(photo, photo[20:, 30:], ["crop-hash"])["crop-hash"] == first.hash_diff(second)[::-1]


@pytest.mark.parametrize(
    "picture", [np.full((40, 50, 3), 9, np.uint8), np.zeros((1, 1, 3), np.uint8), _bright_pixel()]
)
def test_identical_pictures_have_hashes_at_no_distance(picture: Rgb) -> None:
    for name, (bits, _) in hash_distances(picture, picture.copy()).items():
        assert bits == 0, name


# ---- files ---------------------------------------------------------------------------------------------------------


def full(source: bytes) -> FullPicture:
    return read_full(source, "x")


def test_bytes_are_counted_place_by_place() -> None:
    def count(a: bytes, b: bytes) -> tuple[int, int | None]:
        return differing_bytes(io.BytesIO(a), io.BytesIO(b))

    assert count(b"same", b"same") == (0, None)
    assert count(b"abcd", b"abXd") == (1, 2)
    assert count(b"abc", b"abcdef") == (3, 3)
    assert count(b"", b"x") == (1, 0)
    long = bytes(3 << 20)
    assert count(long, long[:-1] + b"x") == (1, (3 << 20) - 1)
    assert count(long, long[: 2 << 20]) == (1 << 20, 2 << 20)


def test_same_pixels_needs_depth_alpha_profile_and_frames(photo: Rgb) -> None:
    from tests.pictures import wide_profile

    image = Image.fromarray(photo)
    plain = full(encode(image))
    assert same_pixels(plain, full(encode(image, "TIFF")))[0] is True
    assert same_pixels(plain, full(encode(image.convert("L"))))[0] is False
    profiled = same_pixels(plain, full(encode(image, icc_profile=wide_profile())))
    assert profiled[0] is False and profiled[1]["differs"] == "colour profile"
    clear = image.convert("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 4))
    assert same_pixels(plain, full(encode(clear)))[0] is False
    other = image.copy()
    other.putpixel((3, 3), (1, 2, 3))
    changed = same_pixels(plain, full(encode(other)))
    assert changed[0] is False and changed[1]["differs"] == "samples"


def test_16_bits_are_compared_in_fractions_of_a_level() -> None:
    levels = (np.arange(4000, dtype=np.uint32).reshape(50, 80) * 16).astype(np.uint16)
    a, b = (full(encode(Image.fromarray(values))) for values in (levels, levels + 64))
    layers = as_layer(a, b), as_layer(b, a)
    assert layers[0].rgb.dtype == np.float32
    frames = prepare(*layers, Preparation(), None)
    found = {m.name: m for m in measure_frames(frames, ["rms", "l0", "psnr"])}
    assert number(found["rms"]) == pytest.approx(64 / 257, rel=1e-3)
    assert number(found["l0"]) == 1
    # Against 8 bits, 8 bits are what can be compared.
    eight = full(encode(Image.fromarray((levels >> 8).astype(np.uint8))))
    assert as_layer(a, eight).rgb.dtype == np.uint8


def test_shape_and_proportions() -> None:
    a, b = (full(encode(Image.new(mode, size))).info for mode, size in (("RGB", (80, 60)), ("L", (40, 30))))
    value, parts, _ = shape(a, b)
    assert value is False and parts["proportions"] == 0 and parts["size_ratio"] == 0.5
    assert shape(a, a)[0] is True


def test_the_shot_is_a_hint_and_never_more() -> None:
    a = Metadata(capture_time="2019-07-04T12:41:07", camera="X")
    assert shot(a, a)[0] == 1
    assert shot(a, Metadata(capture_time="2019-07-04T12:41:08", camera="X"))[0] == 0.5
    value, _, note = shot(a, Metadata())
    assert value is None and note
    assert "never a proof" in KINDS["shot"].blind_to


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"subsampling": 1}])
def test_a_jpeg_saved_again_by_pillow_is_found_out_exactly(
    photo: Rgb, quality: int, options: dict[str, Any]
) -> None:
    first = jpeg(Image.fromarray(photo), 92)
    again = jpeg(Image.open(io.BytesIO(first)), quality, **options)
    value, parts, note = resave(full(first), full(again))
    assert value == 0 and "saved by this very encoder" in note and parts["quality"] == quality
    back, _, _ = resave(full(again), full(first))
    assert back is not None and back > 0.3


def test_resave_says_why_there_is_no_number(photo: Rgb) -> None:
    first = full(jpeg(Image.fromarray(photo)))
    assert resave(first, full(encode(Image.fromarray(photo))))[2] == "B is no JPEG"
    assert "sizes" in resave(first, full(jpeg(scaled(Image.fromarray(photo), 0.5))))[2]
    grey = full(jpeg(Image.fromarray(photo).convert("L"), 80))
    assert resave(grey, full(jpeg(Image.fromarray(grey.rgb[..., 0]), 50)))[0] == 0


def test_canonical_is_both_saved_by_the_same_encoder(photo: Rgb, cat: Rgb) -> None:
    first = jpeg(Image.fromarray(photo), 90)
    a, b = full(first).rgb, full(jpeg(Image.open(io.BytesIO(first)), 75)).rgb
    value, _, _ = canonical(a, b)
    wanted = [np.asarray(Image.open(io.BytesIO(jpeg(Image.fromarray(p), 75))), float) for p in (a, b)]
    assert value == pytest.approx(np.sqrt(((wanted[0] - wanted[1]) ** 2).mean()), rel=0.02)
    assert canonical(a, a.copy()) == (0.0, {"same_bytes": True, "quality": 75}, "")
    other = canonical(a, cat)[0]
    assert isinstance(value, float) and isinstance(other, float) and other > 20 * value


# ---- preparation ---------------------------------------------------------------------------------------------------


def test_different_sizes_are_not_comparable_and_the_reason_says_what_helps(photo: Rgb) -> None:
    half = np.asarray(scaled(Image.fromarray(photo), 0.5))
    found = measured(photo, half)
    for name in ("rms", "l1", "l0", "sad", "box", "psnr", "ssim", "tile", "rms-lab", "sobel", "whiten"):
        assert found[name].value is None and "--resize" in found[name].note, name
    for name in ("hist-rms", "kl", "js", "chi2", "emd", "noise"):
        assert found[name].value is not None, name
    assert number(one(photo, half, "rms", resize=True)) < 6


def test_cropping_to_the_common_size_is_around_the_centre(photo: Rgb) -> None:
    cut = photo[10:-10, 20:-20]
    assert number(one(photo, cut, "rms", crop_to_overlap=True)) == 0


def test_a_crop_is_aligned_to_where_it_was_cut(photo: Rgb) -> None:
    height, width = photo.shape[:2]
    cut = photo[20:220, 40:340]
    sx, sy = width / 300, height / 200
    placing = Placing(1, np.array([[sx, 0, -40 / 300], [0, sy, -20 / 200]]))
    layers = Layer(photo, None), Layer(cut, None)
    frames = prepare(*layers, Preparation(align=True, crop_to_overlap=True), placing)
    assert frames.a.shape == frames.b.shape and frames.a.shape[0] >= 198
    found = next(iter(measure_frames(frames, ["rms"])))
    assert number(found) == 0
    whole = prepare(*layers, Preparation(align=True), placing)
    assert whole.a.shape == photo.shape and (whole.b[:19] == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_turned_back(photo: Rgb, orientation: int) -> None:
    from PIL import ImageOps

    tagged = Image.fromarray(photo)
    tagged.getexif()[0x0112] = orientation
    # `b`, once the orientation is applied to it, is the photo.
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    image = Image.fromarray(photo)
    image.getexif()[0x0112] = inverse
    stored = np.asarray(ImageOps.exif_transpose(image))
    placing = Placing(orientation, np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    frames = prepare(Layer(photo, None), Layer(stored, None), Preparation(align=True), placing)
    assert frames.is_equal


def test_greys_by_average_and_by_luma(photo: Rgb) -> None:
    average = framed(photo, photo, grey="average")
    assert np.allclose(average.a[..., 0], photo.mean(axis=2), atol=1e-3)
    luma = framed(photo, photo, grey="luma")
    assert np.abs(luma.a[..., 0] - np.asarray(Image.fromarray(photo).convert("L"), float)).max() <= 0.51
    assert luma.bands == average.bands == ("L",)


def test_noise_is_reduced_before_measuring(photo: Rgb) -> None:
    grain = np.random.default_rng(1).normal(0, 12, photo.shape)
    noisy = np.clip(as_floats(Image.fromarray(photo)) + grain, 0, 255).astype(np.uint8)
    plain = number(one(photo, noisy, "rms"))
    gauss, median = (number(one(photo, noisy, "rms", denoise=kind)) for kind in ("gaussian", "median"))
    assert gauss < plain / 2 and median < plain / 1.5
    wanted = ndimage.median_filter(noisy[..., 0].astype(np.float32), 3)
    assert np.array_equal(framed(photo, noisy, denoise="median").b[..., 0], wanted)


def test_percentiles_undo_exposure(photo: Rgb) -> None:
    other = (photo * 0.7 + 20).astype(np.uint8)
    assert number(one(photo, other, "rms", normalise="percentile")) < number(one(photo, other, "rms")) / 8


# ---- names ---------------------------------------------------------------------------------------------------------


def test_measures_are_chosen_by_name_family_and_word() -> None:
    assert choose_names(("all",)) == tuple(KINDS)
    assert choose_names(("ssim", "rms")) == ("rms", "ssim")
    assert set(choose_names(("hashes",))) == {*HASH_KINDS, "phash256"}
    assert set(choose_names(("histograms",))) == {"hist-rms", "kl", "js", "chi2", "emd"}
    assert choose_names(()) == ()
    with pytest.raises(KeyError, match="nonsense"):
        choose_names(("rms", "nonsense"))


def test_every_measure_says_what_it_means_and_what_it_is_blind_to() -> None:
    for kind in KINDS.values():
        assert len(kind.meaning) > 8 and len(kind.blind_to) > 4
        assert kind.meaning[-1] not in ".;" and kind.blind_to[-1] not in ".;"


def test_a_measure_without_memory_costs_itself(
    photo: Rgb, saved: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dedup.compare import structure

    def greedy(_frames: Frames) -> None:
        raise MemoryError

    monkeypatch.setattr(structure, "whiten", greedy)
    found = measured(photo, saved, "whiten", "rms")
    assert found["whiten"].value is None and "memory" in found["whiten"].note
    assert found["rms"].value is not None


def test_the_shape_of_real_photos_is_no_matter() -> None:
    """Whole tiles or not, odd or even, wide or narrow: every measure has a number or a reason."""
    camera = np.repeat(THEIRS.data.camera()[:, :, None], 3, axis=2)
    for height, width in ((1, 1), (2, 3), (7, 300), (300, 7), (257, 129)):
        a = camera[:height, :width]
        for name, measure in measured(a, 255 - a).items():
            assert measure.value is not None or measure.note, (name, height, width)
            assert measure.value is None or math.isfinite(measure.value), (name, height, width)
