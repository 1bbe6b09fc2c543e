"""`sequence`: distances, sudden changes, broken frames, the background and what stands out, repeats, and their plan."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from dedup import pipeline
from dedup.compare.background import LEAST_FRAMES, LEAST_SIGMA, Background, are_odd
from dedup.compare.histograms import SMOOTHING
from dedup.errors import UsageError
from dedup.records import FramesAsked, Relation, SequenceReport, Step
from dedup.sequence import drop_groups, examine_sequence, natural_key
from dedup.settings import Settings
from tests.desk import Desk
from tests.pictures import as_image, jpeg, real_photo, text_page

Rgb = NDArray[np.uint8]
SIZE = (360, 240)


def scene(name: str = "coffee") -> NDArray[np.float64]:
    return np.asarray(real_photo(name, 640).resize(SIZE)).astype(np.float64)


def put_frames(folder: Path, frames: list[NDArray[Any]], quality: int = 92) -> Path:
    folder.mkdir(exist_ok=True)
    for number, pixels in enumerate(frames, start=1):
        (folder / f"frame{number}.jpg").write_bytes(jpeg(as_image(pixels), quality))
    return folder


def noisy(
    count: int, base: NDArray[np.float64] | None = None, sigma: float = 2.0
) -> list[NDArray[np.float64]]:
    chance = np.random.default_rng(4)
    base = scene() if base is None else base
    return [base + chance.normal(0, sigma, base.shape) for _ in range(count)]


def examine(folder: Path, **asked: Any) -> SequenceReport:
    return examine_sequence(str(folder), FramesAsked(**asked), Settings(jobs=1))


def names(steps: tuple[Step, ...]) -> list[str]:
    return [os.path.basename(step.path) for step in steps]


# ---- distances -----------------------------------------------------------------------------------------------------


def test_the_distance_of_consecutive_frames_is_scipys_symmetric_entropy(tmp_path: Path) -> None:
    folder = put_frames(tmp_path / "f", [scene(), scene() * 0.9 + 8, scene("chelsea")])
    found = examine(folder)
    shares = []
    for number in (1, 2, 3):
        pixels = np.asarray(Image.open(folder / f"frame{number}.jpg"))
        luma = np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(int)
        counts = np.bincount(luma.ravel(), minlength=256) + SMOOTHING
        shares.append(counts / counts.sum())
    assert found.steps[0].distance is None
    for at in (1, 2):
        p, q = shares[at - 1], shares[at]
        wanted = (stats.entropy(p, q) + stats.entropy(q, p)) / 2
        assert found.steps[at].distance == pytest.approx(wanted, rel=0.01)


def test_equal_frames_are_at_no_distance(tmp_path: Path) -> None:
    found = examine(put_frames(tmp_path / "f", [scene()] * 4))
    assert [step.distance for step in found.steps[1:]] == [0, 0, 0]
    assert all(value == 0 for step in found.steps[1:] for _, value in step.others)


def test_a_change_that_stays_is_a_sudden_change(tmp_path: Path) -> None:
    found = examine(put_frames(tmp_path / "f", noisy(3) + noisy(3, scene("chelsea"))))
    assert names(found.changes) == ["frame4.jpg"]
    assert found.corrupt == ()


def test_a_frame_that_is_alone_is_corrupt_and_the_next_one_is_no_change(tmp_path: Path) -> None:
    frames = noisy(6)
    frames[3] = 255 - frames[3]
    found = examine(put_frames(tmp_path / "f", frames))
    assert names(found.corrupt) == ["frame4.jpg"] and "alone" in found.corrupt[0].corrupt
    assert found.changes == ()


def test_two_broken_frames_in_a_row_are_corrupt_and_three_are_a_scene(tmp_path: Path) -> None:
    frames = noisy(9)
    frames[3:5] = [255 - frame for frame in frames[3:5]]
    assert names(examine(put_frames(tmp_path / "two", frames)).corrupt) == ["frame4.jpg", "frame5.jpg"]
    frames[5] = 255 - frames[5]
    found = examine(put_frames(tmp_path / "three", frames))
    assert found.corrupt == () and names(found.changes) == ["frame4.jpg", "frame7.jpg"]


def test_the_threshold_is_the_users_own(tmp_path: Path) -> None:
    folder = put_frames(tmp_path / "f", noisy(3) + noisy(3, scene() * 0.93))
    distance = examine(folder).steps[3].distance
    assert distance is not None
    assert examine(folder, threshold=distance * 1.01).changes == ()
    assert names(examine(folder, threshold=distance * 0.99).changes) == ["frame4.jpg"]


def test_the_calibration_cuts_off_as_many_with_every_distance(tmp_path: Path) -> None:
    found = examine(
        put_frames(tmp_path / "f", noisy(4) + noisy(4, scene("chelsea")) + noisy(4, scene("rocket")))
    )
    beyond = sum(step.distance > 0.2 for step in found.steps if step.distance is not None)
    assert beyond == 2
    assert [row[0] for row in found.calibration] == ["kl", "js", "chi2", "emd"]
    for name, median, p95, largest, cut in found.calibration:
        values = [
            step.distance if name == "kl" else dict(step.others)[name]
            for step in found.steps
            if step.distance is not None
        ]
        assert median == pytest.approx(np.median(values)) and largest == max(values)
        assert p95 == pytest.approx(np.percentile(values, 95))
        assert cut is not None and sum(value > cut for value in values) == beyond


def test_without_a_sudden_change_there_is_nothing_to_calibrate_by(tmp_path: Path) -> None:
    found = examine(put_frames(tmp_path / "f", noisy(4)))
    assert [row[4] for row in found.calibration] == [0.2, None, None, None]


# ---- broken files --------------------------------------------------------------------------------------------------


def test_unreadable_and_damaged_frames_are_corrupt_and_the_others_go_on(tmp_path: Path) -> None:
    folder = put_frames(tmp_path / "f", noisy(6))
    content = (folder / "frame2.jpg").read_bytes()
    (folder / "frame2.jpg").write_bytes(content[: len(content) // 2])
    (folder / "frame3.jpg").write_bytes(b"")
    (folder / "frame5.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    (folder / "notes.txt").write_text("no frame")
    found = examine(folder)
    assert names(found.corrupt) == ["frame2.jpg", "frame3.jpg", "frame5.jpg"]
    assert found.changes == () and len(found.steps) == 6
    assert all(step.corrupt for step in found.steps if step.photo is None)


def test_a_folder_without_frames_is_named_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        examine(tmp_path / "none")
    put_frames(tmp_path / "deep", [scene()] * 3)
    with pytest.raises(UsageError, match="3 photos lie in folders below"):
        examine(tmp_path)
    (tmp_path / "bad").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "bad" / name).write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(UsageError, match="two frames"):
        examine(tmp_path / "bad")


def test_frames_of_another_size_do_not_stop_anything(tmp_path: Path) -> None:
    frames = noisy(6)
    frames[2] = frames[2][:120, :180]
    found = examine(put_frames(tmp_path / "f", frames))
    assert len(found.steps) == 6


# ---- order ---------------------------------------------------------------------------------------------------------


def test_numbers_in_names_count_as_numbers() -> None:
    given = ["f10.jpg", "f2.jpg", "F1.jpg", "a.jpg", "f2a.jpg", "10.jpg", "9.jpg"]
    wanted = ["9.jpg", "10.jpg", "a.jpg", "F1.jpg", "f2.jpg", "f2a.jpg", "f10.jpg"]
    assert sorted(given, key=natural_key) == wanted
    # Signs that are digits to Unicode and no numbers to us.
    assert len(sorted(["²x", "٣x", "1x", "x", ""], key=natural_key)) == 5
    assert sorted(["x10", "x9"], key=natural_key) == ["x9", "x10"]


def test_frames_may_be_ordered_by_time(tmp_path: Path) -> None:
    folder = put_frames(tmp_path / "f", noisy(3))
    for place, number in enumerate((3, 1, 2)):
        os.utime(folder / f"frame{number}.jpg", ns=(0, place * 10**9))
    assert names(examine(folder, order="time").steps) == ["frame3.jpg", "frame1.jpg", "frame2.jpg"]
    assert names(examine(folder).steps) == ["frame1.jpg", "frame2.jpg", "frame3.jpg"]


# ---- background ----------------------------------------------------------------------------------------------------


def test_the_model_is_numpys_mean_and_sigma_of_all_but_the_frame() -> None:
    chance = np.random.default_rng(9)
    frames = [chance.integers(0, 256, (12, 15, 3)).astype(np.uint8) for _ in range(7)]
    background = Background(frames)
    assert np.allclose(background.mean(), np.mean(frames, axis=0))
    assert np.allclose(background.sigma(), np.std(frames, axis=0))
    others = np.array(frames[1:], float)
    sigma = np.maximum(others.std(axis=0), max(LEAST_SIGMA, float(np.median(others.std(axis=0)))))
    outside = (np.abs(frames[0] - others.mean(axis=0)) > 2 * sigma).any(axis=2)
    found = background.foreign(frames[0]).mask
    assert not (found & ~outside).any()


def test_what_only_one_frame_has_stands_out_with_its_place(tmp_path: Path) -> None:
    frames = noisy(8)
    frames[4][60:120, 90:180] = (220, 30, 30)
    found = examine(put_frames(tmp_path / "f", frames))
    assert names(found.odd) == ["frame5.jpg"]
    step = found.odd[0]
    assert step.foreign_box == pytest.approx((0.25, 0.25, 0.5, 0.5), abs=0.02)
    assert step.foreign_share == pytest.approx(0.0625, abs=0.005)


def test_a_frame_is_not_part_of_the_model_it_is_held_against() -> None:
    """In a model of five with the frame itself nothing is ever beyond 1.79 sigma."""
    frames = [np.full((20, 20, 3), 100, np.uint8) for _ in range(5)]
    frames[2][5:15, 5:15] = 180
    assert Background(frames).foreign(frames[2]).share == 0.25
    assert Background(frames).foreign(frames[0]).share == 0


def test_noise_alone_stands_out_nowhere(tmp_path: Path) -> None:
    assert examine(put_frames(tmp_path / "f", noisy(12, sigma=6.0))).odd == ()


def test_what_moves_all_the_time_is_background(tmp_path: Path) -> None:
    frames = noisy(10)
    for at, frame in enumerate(frames):
        frame[:60] = 180 if at % 2 else 60  # a lamp that blinks
    assert examine(put_frames(tmp_path / "f", frames), threshold=5.0).odd == ()


def test_too_few_frames_have_no_background() -> None:
    with pytest.raises(ValueError, match="3 frames"):
        Background([np.zeros((4, 4, 3), np.uint8)] * (LEAST_FRAMES - 1))
    assert are_odd([]) == []


def test_the_background_is_drawn_with_what_stands_out(tmp_path: Path) -> None:
    frames = noisy(6)
    frames[2][60:120, 90:180] = (220, 30, 30)
    folder = put_frames(tmp_path / "f", frames)
    with Image.open(io.BytesIO(examine(folder, draw=True).background_png)) as picture:
        assert picture.width > 2 * 360 and picture.height > 2 * 240
    assert examine(folder).background_png == b""
    assert examine(put_frames(tmp_path / "two", noisy(2)), draw=True).background_png == b""


# ---- repeats -------------------------------------------------------------------------------------------------------


def test_frames_in_which_nothing_changed_name_the_one_they_repeat(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    page, other = text_page(), text_page("other")
    for number, picture in enumerate((page, page, other, other, other, page), start=1):
        picture.save(folder / f"{number}.png", compress_level=number)
    found = examine(folder)
    assert [os.path.basename(step.repeats) for step in found.steps] == ["", "1.png", "", "3.png", "3.png", ""]
    assert {step.match.relation for step in found.repeated if step.match} == {Relation.SAME_PIXELS}


def test_another_word_is_no_repeat_whatever_the_histogram_says(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number, word in enumerate(("", "other", "third"), start=1):
        text_page(word, size=(1600, 1600)).save(folder / f"{number}.png")
    found = examine(folder)
    assert all(step.distance is None or step.distance < 0.01 for step in found.steps)
    assert found.repeated == ()


def test_a_long_series_is_cut_into_runs_and_every_frame_still_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dedup import sequence

    monkeypatch.setattr(sequence, "RUN_FRAMES", 4)
    found = examine(put_frames(tmp_path / "f", [scene()] * 10))
    kept = [os.path.basename(step.path) for step in found.steps if not step.repeats]
    assert kept == ["frame1.jpg"] and len(found.repeated) == 9


# ---- motion --------------------------------------------------------------------------------------------------------


def test_a_moved_camera_is_told_in_pixels_of_the_frame(tmp_path: Path) -> None:
    big = np.asarray(real_photo("coffee", 600)).astype(float)
    frames = [big[20:380, 30 + 9 * at : 510 + 9 * at] for at in range(4)]
    found = examine(put_frames(tmp_path / "f", frames), motion=True)
    for step in found.steps[1:]:
        assert step.motion is not None and step.motion.words == "the camera moved"
        assert step.motion.camera_px == pytest.approx((-9, 0), abs=0.5)
    assert all(step.motion is None for step in examine(tmp_path / "f").steps)


# ---- the plan ------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    page, other = text_page(), text_page("other")
    for number, picture in enumerate((page, page, other, other, page), start=1):
        picture.save(made.photos / f"shot{number}.png", compress_level=number)
    return made


def test_a_plan_drops_repeated_frames_as_any_other_plan_and_undo_brings_them_back(desk: Desk) -> None:
    out, said = desk.type("sequence", "Pictures", "-o", "drop.plan")
    assert "shot2.png: as shot1.png (same-pixels)" in out and "2 frames would go" in said
    shown, _ = desk.type("plan", "--show", "drop.plan")
    assert "shot2.png" in shown and "first of the frames in which nothing changed" in shown
    before = {path.name: path.read_bytes() for path in desk.photos.iterdir()}
    desk.type("apply", "drop.plan", "--yes")
    assert sorted(path.name for path in desk.photos.glob("*.png")) == ["shot1.png", "shot3.png", "shot5.png"]
    desk.type("undo")
    assert {path.name: path.read_bytes() for path in desk.photos.glob("*.png")} == before


def test_a_frame_that_only_noise_parts_is_in_no_plan(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number, pixels in enumerate(noisy(3, np.full((240, 360, 3), 120.0), sigma=5.0), start=1):
        as_image(pixels).save(folder / f"{number}.png")
    found = examine(folder)
    assert len(found.repeated) == 2 and all(step.match is None for step in found.repeated)
    assert drop_groups(found) == []
    assert pipeline.plan_groups([], str(folder), Settings()).operations == ()


def test_protected_frames_stay(tmp_path: Path) -> None:
    folder = put_frames(tmp_path / "f", [scene()] * 3)
    groups = drop_groups(examine(folder))
    assert len(pipeline.plan_groups(groups, str(folder), Settings()).operations) == 2
    guarded = pipeline.plan_groups(groups, str(folder), Settings(protect=(str(folder),)))
    assert guarded.operations == () and len(guarded.left_out) == 2


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_what_happens_in_words_and_in_json(desk: Desk) -> None:
    out, _ = desk.type("sequence", "Pictures")
    assert out.startswith("5 frames in ") and "Kullback-Leibler" in out and "nothing changed since" in out
    found = json.loads(desk.type("sequence", "--json", "--flow", "Pictures")[0])
    assert found["threshold"] == 0.2 and [row["repeats"] != "" for row in found["frames"]] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert found["calibration"]["kl"]["cuts_off_as_many"] == 0.2
    assert found["frames"][1]["motion"]["words"]


def test_a_broken_frame_ends_with_3_and_a_wrong_word_with_2(desk: Desk) -> None:
    (desk.photos / "shot9.png").write_bytes((desk.photos / "shot1.png").read_bytes()[:900])
    out, _ = desk.type("sequence", "Pictures", code=3)
    assert "shot9.png" in out
    desk.type("sequence", "none", code=2)
    desk.type("sequence", "--threshold", "0", "Pictures", code=2)


def test_a_background_is_never_put_over_a_photo(desk: Desk) -> None:
    before = {path.name: path.read_bytes() for path in desk.photos.iterdir()}
    desk.type("sequence", "Pictures", "--background", "Pictures/shot1.png", code=2)
    desk.type("sequence", "Pictures", "-o", "Pictures/shot1.png", code=2)
    assert {path.name: path.read_bytes() for path in desk.photos.iterdir()} == before
    desk.type("sequence", "Pictures", "--background", "b.png")
    desk.type("sequence", "Pictures", "--background", "b.png")
    assert (desk.home / "b.png").exists()


def test_names_with_control_characters_stay_on_their_line(desk: Desk) -> None:
    shutil.copy(desk.photos / "shot1.png", desk.photos / "shot\x1b[2J\n.png")
    out, _ = desk.type("sequence", "Pictures")
    assert "\x1b" not in out
