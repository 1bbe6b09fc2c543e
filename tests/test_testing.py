"""`assert_same_picture`: strict by default, clear when it fails, and a plugin that takes new pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dedup import testing
from dedup.errors import UsageError
from dedup.testing import assert_same_picture
from tests.pictures import encode, jpeg, real_photo, text_page

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(testing, "_run", testing._Run())


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "image", "array"])
def test_any_kind_of_picture_equals_itself(tmp_path: Path, kind: str) -> None:
    page = text_page()
    page.save(tmp_path / "page.png")
    actual = {
        "path": tmp_path / "page.png",
        "text": str(tmp_path / "page.png"),
        "bytes": encode(page),
        "image": page,
        "array": np.asarray(page),
    }[kind]
    assert_same_picture(actual, tmp_path / "page.png")
    assert_same_picture(page, actual)


@pytest.mark.parametrize("type_px", [10, 14, 24])
@pytest.mark.parametrize("scale", [1, 4])
def test_one_changed_word_fails_by_default(tmp_path: Path, type_px: int, scale: int) -> None:
    size = (520 * scale, 520 * scale)
    text_page(size=size, type_px=type_px).save(tmp_path / "page.png")
    with pytest.raises(AssertionError, match="the picture differs") as failed:
        assert_same_picture(text_page("other", size=size, type_px=type_px), tmp_path / "page.png")
    words = str(failed.value)
    assert "pixels" in words and "from (" in words and "--update-pictures" in words


def test_one_changed_letter_in_pale_grey_fails_by_default(tmp_path: Path) -> None:
    page = np.full((300, 400, 3), 255, np.uint8)
    other = page.copy()
    other[100:105, 200:203] = 245
    with pytest.raises(AssertionError, match="15 of 120,000 pixels"):
        assert_same_picture(other, page)


def test_the_difference_is_drawn_and_named(tmp_path: Path) -> None:
    text_page().save(tmp_path / "page.png")
    with pytest.raises(AssertionError) as failed:
        assert_same_picture(text_page("other"), tmp_path / "page.png")
    drawn = list((tmp_path / "picture-differences").iterdir())
    assert len(drawn) == 1
    assert str(Path("picture-differences") / drawn[0].name) in str(failed.value)
    assert "page" in drawn[0].name and "test_the_difference_is_drawn_and_named" in drawn[0].name
    with Image.open(drawn[0]) as picture:
        assert picture.width > 2 * 520
        assert "dedup" in picture.text["Software"]  # type: ignore[attr-defined]


def test_the_drawing_goes_where_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"here\.png"):
        assert_same_picture(text_page("other"), text_page(), difference=tmp_path / "a" / "here.png")
    assert (tmp_path / "a" / "here.png").stat().st_size > 1000


def test_where_nothing_can_be_drawn_the_difference_is_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AssertionError, match="the picture differs") as failed:
        assert_same_picture(text_page("other"), text_page(), difference=tmp_path / "file" / "x.png")
    assert "drawn in" not in str(failed.value)


def test_rounding_passes_and_more_does_not() -> None:
    page = np.full((40, 40, 3), 100, np.uint8)
    assert_same_picture(page + 2, page)
    with pytest.raises(AssertionError, match="at most 3"):
        assert_same_picture(page + 3, page)
    assert_same_picture(page + 3, page, tolerance_levels=3)


def test_a_share_of_the_pixels_may_differ_if_asked() -> None:
    page = np.zeros((100, 100, 3), np.uint8)
    other = page.copy()
    other[0, :5] = 255
    with pytest.raises(AssertionError):
        assert_same_picture(other, page, differing_share=0.0004)
    assert_same_picture(other, page, differing_share=0.0005)


def test_what_is_to_be_ignored_may_differ_and_the_rest_may_not() -> None:
    page = np.zeros((100, 100, 3), np.uint8)
    clock = page.copy()
    clock[10:20, 70:90] = 200
    assert_same_picture(clock, page, ignore=[(70, 10, 90, 20)])
    with pytest.raises(AssertionError, match=r"from \(89, 10\) to \(90, 20\)"):
        assert_same_picture(clock, page, ignore=[(70, 10, 89, 20)])


def test_another_size_is_told_with_both_sizes() -> None:
    with pytest.raises(AssertionError, match="it is 30 x 20 pixels, 40 x 20 were expected"):
        assert_same_picture(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 40, 3), np.uint8))


def test_transparency_counts() -> None:
    solid = np.full((20, 20, 4), 255, np.uint8)
    clear = solid.copy()
    clear[5:10, 5:10, 3] = 0
    with pytest.raises(AssertionError, match="25 of 400 pixels"):
        assert_same_picture(clear, solid)
    assert_same_picture(clear, clear.copy())


def test_a_picture_of_16_bits_is_not_cut_to_8() -> None:
    levels = np.arange(400, dtype=np.uint16).reshape(20, 20) * 100
    assert_same_picture(Image.fromarray(levels), Image.fromarray(levels))
    with pytest.raises(AssertionError):
        assert_same_picture(Image.fromarray(levels + 800), Image.fromarray(levels))
    with pytest.raises(AssertionError):
        assert_same_picture(Image.fromarray(levels + 100), Image.fromarray(levels), tolerance_levels=0.3)


def test_a_missing_picture_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--update-pictures"):
        assert_same_picture(text_page(), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    "picture",
    [b"no picture", 3, np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_what_is_no_picture_is_named(picture: object) -> None:
    with pytest.raises(UsageError, match="actual picture"):
        assert_same_picture(picture, text_page())


# ---- updating ------------------------------------------------------------------------------------------------------


def test_updating_writes_what_is_missing_or_differs_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing._run, "update", True)
    place = tmp_path / "deep" / "page.png"
    assert_same_picture(text_page(), place)
    before = place.stat().st_mtime_ns, place.read_bytes()
    assert_same_picture(text_page(), place)
    assert (place.stat().st_mtime_ns, place.read_bytes()) == before
    assert_same_picture(text_page("other"), place)
    assert place.read_bytes() != before[1]
    monkeypatch.setattr(testing._run, "update", False)
    assert_same_picture(text_page("other"), place)


def test_updating_from_a_jpeg_keeps_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing._run, "update", True)
    source = jpeg(real_photo("coffee", 200), 60)
    assert_same_picture(source, tmp_path / "photo.png")
    monkeypatch.setattr(testing._run, "update", False)
    assert_same_picture(source, tmp_path / "photo.png", tolerance_levels=0)


def test_a_picture_that_would_lose_something_is_not_updated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing._run, "update", True)
    with pytest.raises(UsageError, match="only PNG"):
        assert_same_picture(text_page(), tmp_path / "page.jpg")
    assert not (tmp_path / "page.jpg").exists()


# ---- the plugin ----------------------------------------------------------------------------------------------------

TEST = """
from pathlib import Path
import numpy as np
from dedup.testing import assert_same_picture

def test_drawing():
    level = int((Path(__file__).parent / "level").read_text())
    assert_same_picture(np.full((20, 20, 3), level, np.uint8), Path(__file__).parent / "expected.png")
"""


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-p", "dedup.testing"),
            *words,
        ],
        cwd=folder,
        # Without what else is installed: each plugin takes its time, and an installed copy of ours would come twice.
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_plugin_takes_new_pictures_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "level").write_text("10")
    first = run_pytest(tmp_path)
    assert first.returncode == 1 and "--update-pictures" in first.stdout
    taken = run_pytest(tmp_path, "--update-pictures")
    assert taken.returncode == 0 and "pictures updated" in taken.stdout, taken.stdout + taken.stderr
    assert run_pytest(tmp_path).returncode == 0
    (tmp_path / "level").write_text("60")
    failed = run_pytest(tmp_path, "--picture-differences", "drawn here")
    assert failed.returncode == 1 and "400 of 400 pixels" in failed.stdout
    assert len(list((tmp_path / "drawn here").iterdir())) == 1
    assert run_pytest(tmp_path, "--update-pictures").returncode == 0
    assert run_pytest(tmp_path).returncode == 0


def test_the_plugin_is_announced_and_loads_nothing_heavy() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"dedup-pictures": "dedup.testing"}
    loaded = subprocess.run(
        [sys.executable, "-c", "import dedup.testing, sys; print(*sys.modules)"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"numpy", "PIL", "scipy", "pytest", "imagehash"} & set(loaded)
