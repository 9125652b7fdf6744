"""The rules of the house: what imports what, what is never called, how errors are raised, and that the documents tell the truth."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import farm3d
from farm3d.apps.cli import parse
from farm3d.core import errors

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "farm3d"
MODULES = sorted(SOURCE.rglob("*.py"))
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# --- starting up ------------------------------------------------------------------------------------------------------------


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    program = (
        "import sys; from farm3d.apps.cli import main; code = main(['reconstruct', '--help']);"
        "heavy = {'torch', 'numba', 'scipy', 'numpy', 'PIL', 'onnxruntime', 'imageio'} & set(sys.modules);"
        "sys.exit(f'imported for --help: {sorted(heavy)}' if heavy or code else 0)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    print(f"farm3d reconstruct --help: {time.perf_counter() - started:.2f} s")
    assert done.returncode == 0, done.stderr
    assert "--refine-steps" in done.stdout


def test_the_public_names_exist() -> None:
    assert [name for name in farm3d.__all__ if getattr(farm3d, name, None) is None] == []
    assert sorted(farm3d.__all__) == list(farm3d.__all__)
    with pytest.raises(AttributeError, match="public names"):
        _ = farm3d.Recnstructor


# --- floors -----------------------------------------------------------------------------------------------------------------


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
    return subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)


def test_imports_only_go_down() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed: pip install 'farm3d[dev]'")
    done = lint_imports(REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_import_that_goes_up_is_found(tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed: pip install 'farm3d[dev]'")
    shutil.copytree(SOURCE, tmp_path / "src" / "farm3d", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "farm3d" / "core" / "errors.py").open("a") as file:
        file.write("\nfrom farm3d.structures import Mesh\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0 and "farm3d.core.errors" in done.stdout


# --- no network -------------------------------------------------------------------------------------------------------------


def test_tests_cannot_leave_this_machine() -> None:
    with socket.socket() as far, pytest.raises(PermissionError, match=r"192\.0\.2\.1"):
        far.connect(("192.0.2.1", 80))  # an address reserved for documentation; nothing is sent


def test_loopback_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as near:
        near.connect(server.getsockname())
        assert near.getpeername() == server.getsockname()


# --- what is never done -------------------------------------------------------------------------------------------------------

_UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
_UNSAFE_CALLS = {"eval", "exec", "__import__", "torch.load", "torch.hub.load", "yaml.load", "os.system", "os.popen"}


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Name what can run code from a file or a string, and imports of everything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: imports {name}" for name in names if name.split(".")[0] in _UNSAFE_MODULES)
            yield from (f"{node.lineno}: imports *" for alias in node.names if alias.name == "*")
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in _UNSAFE_CALLS:
                yield f"{node.lineno}: calls {ast.unparse(node.func)}"
            for keyword in node.keywords:
                if keyword.arg in ("shell", "allow_pickle") and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value):
                    yield f"{node.lineno}: passes {keyword.arg}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_runs_code_from_a_file(path: Path) -> None:
    assert list(unsafe(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "yaml.load(f)",
        "eval('1')",
        "run(x, shell=True)",
        "load(f, allow_pickle=yes)",
    ]
    + ["from os import *", "exec(code)", "os.system('x')"],
)
def test_the_search_finds_what_it_should(line: str) -> None:
    assert list(unsafe(ast.parse(line)))


def test_the_search_lets_ordinary_code_pass() -> None:
    assert list(unsafe(ast.parse("model.eval(); run(x, shell=False); load(f, allow_pickle=False); re.compile('x')"))) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_shapes_are_strings(path: Path) -> None:
    """An unquoted axis name (a formatter may take the quotes away) would silently turn the check off."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("Float", "Int", "Bool"):
            assert isinstance(node.slice, ast.Tuple) and isinstance(node.slice.elts[1], ast.Constant), f"line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert path.name != "utils.py"
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or not path.read_text(encoding="utf-8").strip()


# --- errors -------------------------------------------------------------------------------------------------------------------

_OURS = set(errors.__all__)
_PROGRAMMING = {"LookupError", "TypeError", "ValueError", "KeyError", "IndexError", "AttributeError", "SystemExit"}


def raises(tree: ast.AST) -> Iterator[tuple[int, str, int]]:
    """Yield line, class and number of arguments of every ``raise Class(...)``; a bare raise and a re-raised variable say enough."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc if isinstance(node.exc, ast.Call) else None
            name = ast.unparse(call.func if call else node.exc).split(".")[-1]
            if hasattr(builtins, name) or name in _OURS or call:
                yield node.lineno, name, len(call.args) + len(call.keywords) if call else 0


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_raise_is_of_the_tree_and_says_something(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    local = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}  # helpers that build one of our errors
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    own = {node.name for node in classes if any(ast.unparse(base) in _OURS for base in node.bases)}
    wrong = [
        f"line {line}: raises {name}" + ("" if arguments else " without a word")
        for line, name, arguments in raises(tree)
        if name not in _OURS | _PROGRAMMING | local | own or not arguments
    ]
    assert wrong == []


# --- documents ------------------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, str]]:
    """Yield the document and each command of its shell blocks, continued lines joined."""
    for document in DOCUMENTS:
        for block in re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ").split(" # ")[0].strip()
                if command:
                    yield document.name, command


COMMANDS = sorted(set(commands()))


@pytest.mark.parametrize("document, command", [pair for pair in COMMANDS if pair[1].startswith("farm3d ")])
def test_documented_commands_are_understood(document: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(re.split(r" [|>] ", command)[0])[1:]
    if {"--help", "--version", "--tyro-print-completion"} & set(words):
        pytest.skip("prints and stops: nothing to parse")
    assert parse([word for word in words if word != "--debug"]) is not None


@pytest.mark.parametrize("document, command", [pair for pair in COMMANDS if pair[1].startswith("make ")])
def test_documented_make_targets_exist(document: str, command: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    assert {word for word in command.split()[1:] if "=" not in word} <= targets


def test_the_makefile_has_what_the_house_promises() -> None:
    described = dict(re.findall(r"^([a-z-]+):.*## (.+)$", (REPOSITORY / "Makefile").read_text(), re.M))
    assert {"help", "demo", "check", "test", "test-all", "bench"} <= set(described)


def test_the_readme_shows_both_kinds_of_command() -> None:
    starts = {command.split()[0] for document, command in COMMANDS if document == "README.md"}
    assert {"make", "farm3d"} <= starts


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_in_documents_compiles_and_imports(document: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        if not there.exists() or not there.is_relative_to(REPOSITORY):
            dead.append(target)
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            dead.append(target)
    assert dead == []


def test_the_walk_has_six_files() -> None:
    text = (REPOSITORY / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    stops = re.findall(r"^\| (\d) \| \[([\w/]+\.py)\]", text, re.M)
    assert [int(number) for number, _ in stops] == [1, 2, 3, 4, 5, 6]
    assert [name for _, name in stops if not (SOURCE / name).is_file()] == []


PAPER_MAP = REPOSITORY / "docs" / "paper-map.md"
MAPPED = sorted(set(re.findall(r"`(farm3d\.[\w.]+)`", PAPER_MAP.read_text(encoding="utf-8")))) if PAPER_MAP.exists() else []


def test_the_paper_map_is_filled() -> None:
    assert len(MAPPED) >= 20


@pytest.mark.parametrize("name", MAPPED)
def test_the_paper_map_names_what_exists(name: str) -> None:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or "?"):
                raise
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return
    raise AssertionError(f"{name} is no module")


# --- versions -------------------------------------------------------------------------------------------------------------------


def test_the_changelog_knows_this_version() -> None:
    assert f"## {farm3d.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_pinned_versions_fit_the_ranges() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.M))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    checked = 0
    for requirement in map(Requirement, asked):
        if requirement.name in pins:
            assert requirement.specifier.contains(pins[requirement.name]), f"{requirement} excludes the pinned {pins[requirement.name]}"
            checked += 1
    assert checked >= len(project["dependencies"])
    assert {Requirement(line).name for line in project["dependencies"]} <= set(pins)
