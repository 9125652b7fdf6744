"""The command line: what it understands, and how every kind of trouble ends: one line, the right exit code, no traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm3d.apps import cli
from farm3d.apps.options import DoctorOptions, ModelsListOptions, ReconstructOptions, RenderOptions
from farm3d.core.errors import InputError

FARM3D = [sys.executable, "-m", "farm3d"]


def run(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FARM3D, *words], capture_output=True, text=True, timeout=120, **options)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the single line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("farm3d: "), lines
    return lines[0]


def test_every_option_of_reconstruct() -> None:
    words = "reconstruct a.jpg b --category cow --mask masks --segmenter net.onnx --refine-steps 7 --reader none --height-m 1.4"
    words += " --seed 3 --threads 2 --turntable --texture-px 512 --with-light --texture-from c.glb --texture-mask m.png --overwrite --out o"
    assert cli.parse(words.split()) == ReconstructOptions(
        photos=(Path("a.jpg"), Path("b")),
        out=Path("o"),
        category="cow",
        mask=Path("masks"),
        segmenter=Path("net.onnx"),
        refine_steps=7,
        reader="none",
        height_m=1.4,
        seed=3,
        threads=2,
        turntable=True,
        texture_px=512,
        with_light=True,
        texture_from=Path("c.glb"),
        texture_mask=Path("m.png"),
        overwrite=True,
    )


def test_options_may_come_first() -> None:
    assert cli.parse(["reconstruct", "--out", "o", "a.jpg"]).photos == (Path("a.jpg"),)


def test_the_other_verbs() -> None:
    assert cli.parse(["render", "a.glb", "--out", "a.png", "--view", "-30,10", "--time", "0.4", "--clip", "walk"]) == RenderOptions(
        Path("a.glb"), Path("a.png"), view="-30,10", clip="walk", time=0.4
    )
    assert cli.parse(["models", "list"]) == ModelsListOptions()
    assert cli.parse(["doctor", "--licenses"]) == DoctorOptions(licenses=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("recnstruct", "reconstruct"),
        ("reconstruct", "--out"),
        ("reconstruct --out x", "no photograph given"),
        ("reconstruct a.jpg --out x --sed 3", "Perhaps you meant: --seed"),
        ("reconstruct a.jpg --out x --seed many", "--seed"),
        ("reconstruct a.jpg --out", "--out"),
        ("models", "fetch, list"),
        ("render", "--out"),
        ("render a.glb --out a.png --overwrite", "render has no option --overwrite"),
    ],
)
def test_usage_errors_are_one_line(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words.split()) == 2
    assert expected in told(capsys)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_usage_errors_in_a_real_terminal_language(encoding: str) -> None:
    done = run("reconstruct", env=os.environ | {"PYTHONIOENCODING": encoding})
    assert done.returncode == 2 and done.stderr == "farm3d: Missing from farm3d reconstruct: --out DIR (see `farm3d reconstruct --help`)\n"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("farm3d 0.")
    for words in ([], ["--help"], ["reconstruct", "--help"]):
        assert cli.main(words) == 0
        assert "usage: farm3d" in capsys.readouterr().out


def test_completion_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--tyro-print-completion", "bash"]) == 0
    assert "complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["rec"], "reconstruct"),
        (["models", "f"], "fetch"),
        (["reconstruct", "--heig"], "--height-m"),
        (["render", "--turn"], "--turntable"),
    ],
)
def test_completion_completes_in_bash(tmp_path: Path, typed: list[str], expected: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this system")
    script = tmp_path / "farm3d.bash"
    script.write_text(run("--tyro-print-completion", "bash").stdout)
    words = " ".join(["farm3d", *typed])
    program = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; COMP_LINE='{words}'; COMP_POINT=${{#COMP_LINE}};"
    program += " function=$(complete -p farm3d | sed -E 's/.*-F ([^ ]+).*/\\1/'); $function; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run([bash, "-c", program], capture_output=True, text=True, timeout=60)
    assert expected in done.stdout.split(), done.stdout + done.stderr


def raising(error: BaseException):
    def verb(options: object) -> int:
        raise error

    return verb


def test_our_errors_are_one_line_and_exit_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_run", raising(InputError("a.jpg:\nempty file", hint="give a picture")))
    assert cli.main(["doctor"]) == 2
    assert told(capsys) == "farm3d: a.jpg: empty file (give a picture)"


def test_unexpected_errors_ask_for_a_report_and_exit_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_run", raising(RuntimeError("matrix is singular")))
    assert cli.main(["doctor"]) == 1
    line = told(capsys)
    assert "internal error: RuntimeError: matrix is singular" in line and "--debug" in line


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_run", raising(InputError("a.jpg: empty file")))
    assert cli.main(["doctor", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_run", raising(KeyboardInterrupt()))
    assert cli.main(["doctor"]) == 130
    assert "interrupted" in told(capsys)


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # nobody listens
    with os.fdopen(writer, "w") as output:
        done = subprocess.run([*FARM3D, "models", "list"], stdout=output, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.stderr == "" and done.returncode == 0


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name != "posix", reason="no POSIX signals on this system")
def test_control_c_in_a_real_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from farm3d.apps import cli\n"
        "def verb(options):\n    print('ready', flush=True); time.sleep(60)\n"
        "cli._run = verb; sys.exit(cli.main(['doctor']))"
    )
    # A shell starts its background jobs with the interrupt ignored, and children inherit that: undo it where the tests run like that.
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 130 and complaint == "farm3d: interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="no POSIX signals on this system")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_request_to_end_puts_temporary_files_away(name: str, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from farm3d.apps import cli; from farm3d.core.files import whole_file\n"
        f"def verb(options):\n    with whole_file(Path({str(tmp_path / 'x.glb')!r})): print('ready', flush=True); time.sleep(60)\n"
        "cli._run = verb; sys.exit(cli.main(['doctor']))"
    )
    reset = f"import signal; signal.signal(signal.{name}, signal.SIG_DFL)\n"  # the tests may run under nohup
    process = subprocess.Popen([sys.executable, "-c", reset + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name) and complaint == f"farm3d: ended by {name}\n"
    assert list(tmp_path.iterdir()) == []


def test_an_empty_argument_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reconstruct", "", "--out", "out"]) == 2
    assert "an empty argument" in told(capsys)


def test_python_dash_m_is_the_command() -> None:
    done = run("--version")
    assert done.returncode == 0 and done.stdout.startswith("farm3d ") and done.stderr == ""


def test_no_colour_codes_in_a_pipe() -> None:
    done = run("reconstruct")
    assert done.returncode == 2 and "\033" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    for words, expected in (("models list", 0), ("render nowhere.glb --out nowhere.png", 2)):
        finished = subprocess.run(
            ["bash", "-c", f'"{sys.executable}" -m farm3d {words} {closed}'], capture_output=True, text=True, check=False
        )
        assert finished.returncode == expected, finished.stderr
        assert "Traceback" not in finished.stderr and "internal error" not in finished.stderr


def test_a_letter_that_the_terminal_lacks_is_escaped() -> None:
    program = (
        "import sys; from farm3d.apps import cli\n"
        "def verb(options):\n    print('馬'); return 0\n"
        "cli._run = verb; sys.exit(cli.main(['doctor']))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and done.stdout == "\\u99ac\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "farm3d", "models", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert finished.returncode == 2
    assert len(finished.stderr.splitlines()) == 1


def test_control_characters_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_run", raising(InputError("a\033[31m.jpg: empty file")))
    assert cli.main(["doctor"]) == 2
    assert "\033" not in told(capsys)


def test_a_number_that_is_none_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parse(["reconstruct", "a.jpg", "--out", "o", "--refine-steps", "1e3"])
    assert "--refine-steps: expected a whole number, got '1e3'" in told(capsys)
