"""README says what the program does: every command, setting, extra and exit code, and examples that run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from dedup import errors
from dedup.cli import program
from dedup.cli.frame import READER_GONE
from dedup.records import Relation
from dedup.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = re.findall(
    r"^\$ (dedup .*)$", "\n".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL)), re.MULTILINE
)


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"README has no section {title}"
    return found[1]


@pytest.mark.parametrize("name", sorted(program.commands))
def test_each_command_has_its_heading_and_an_example(name: str) -> None:
    assert re.search(rf"^### dedup {name}$", README, re.MULTILINE)
    assert any(re.search(rf"\b{name}\b", example) for example in EXAMPLES)


def test_no_heading_promises_a_command_that_is_not_there() -> None:
    assert set(re.findall(r"^### dedup (\S+)$", README, re.MULTILINE)) == set(program.commands)


@pytest.mark.parametrize("name", sorted(program.commands))
def test_each_option_is_in_readme(name: str) -> None:
    for parameter in program.commands[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            words = [*parameter.opts, *parameter.secondary_opts]
            assert any(word in README for word in words), f"dedup {name} {words}"


def test_each_setting_has_its_row_with_option_variable_and_default() -> None:
    rows = {
        row.split("|")[1].strip(" `"): row
        for row in section("Settings").splitlines()
        if row.startswith("| `")
    }
    assert set(rows) == {field.name for field in fields(Settings)}
    for field in fields(Settings):
        assert f"`DEDUP_{field.name.upper()}`" in rows[field.name]
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert f"{field.default:,}" in rows[field.name]
        if isinstance(field.default, bool):
            assert ("yes" if field.default else "no") in rows[field.name].split("|")[4]


def test_each_exit_code_is_in_the_table() -> None:
    codes = {
        int(number)
        for row in re.findall(r"^\| ([\d, ]+) \|", section("Exit codes"), re.MULTILINE)
        for number in row.split(",")
    }
    ours = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DedupError)
    }
    assert ours | {0, 1, 3, 129, 130, 143, READER_GONE} == codes


def test_each_relation_and_extra_is_explained() -> None:
    for relation in Relation:
        assert f"| `{relation}` |" in section("A first run")
    for extra in ("jxl", "raw", "parquet", "serve"):
        assert extra in section("Install")


def test_the_examples_run_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "Pictures" / "originals"
    folder.mkdir(parents=True)
    chance = np.random.default_rng(1)
    picture = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (320, 240), Image.Resampling.BICUBIC
    )
    picture.save(folder / "a.jpg", quality=95)
    picture.save(tmp_path / "Pictures" / "b.jpg", quality=70)
    frames = tmp_path / "Pictures" / "frames"
    frames.mkdir()
    for number in range(5):
        picture.save(frames / f"frame{number}.png")
    (tmp_path / "card").mkdir()
    for number, name in enumerate(("upload.jpg", "card/new.jpg"), start=5):
        other = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(other).resize((320, 240), Image.Resampling.BICUBIC).save(tmp_path / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEDUP_", "XDG_"))}
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "dedup").write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "if sys.argv[1] == 'bench':  # with three edits of 40: what all of them come to is not said here\n"
        "    from dedup.calibrate import EDITS\n"
        "    for name in list(EDITS)[3:]: del EDITS[name]\n"
        "from dedup.cli import main\n"
        "sys.exit(main())\n"
    )
    (bin_folder / "dedup").chmod(0o755)
    environment = kept | {
        "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }  # fmt: skip
    assert len(EXAMPLES) > 10
    for example in EXAMPLES:
        if " import " in example:
            continue  # what Spark left is there in tests/spark only
        if example.startswith(("dedup serve", "dedup review")):
            with subprocess.Popen(
                ["sh", "-c", f"exec {example} 2>&1"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
            ) as server:
                assert server.stdout is not None
                assert re.search(rb"at http://127\.0\.0\.1:\d+", server.stdout.readline())
                server.terminate()
            continue
        done = subprocess.run(
            ["sh", "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{example}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "duplicates.html").stat().st_size > 1000
    assert (tmp_path / "Pictures" / "new" / "new.jpg").exists()


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Pictures").mkdir()
    chance = np.random.default_rng(2)
    picture = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (320, 240), Image.Resampling.BICUBIC
    )
    picture.save(tmp_path / "Pictures" / "a.jpg", quality=95)
    picture.save(tmp_path / "Pictures" / "b.jpg", quality=70)
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", section("From Python"), re.DOTALL)
    assert code
    exec(code[1], {})
    assert "is a copy of" in capsys.readouterr().out


def test_the_settings_example_is_read(tmp_path: Path) -> None:
    from dedup.cli.layers import choose_settings

    example = re.search(r"```toml\n(.*?)```", section("Settings"), re.DOTALL)
    assert example
    (tmp_path / "s.toml").write_text(example[1])
    assert choose_settings({}, str(tmp_path / "s.toml"), {}).settings.exclude
