"""Models of others: what is fetched of them, and what is refused. The hub is a small one, on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from farm3d.core.errors import InputError, MissingPartError, ModelError
from farm3d.core.hub import digest_of, read_config, read_json, resolve_model, weight_files

COMMIT = "0123456789" * 4
FILES = {
    "config.json": b'{"model_type": "vit"}',
    "model.safetensors": b"safe",
    "pytorch_model.bin": b"pickled",
    "modeling.py": b"raise SystemExit",
}


class SmallHub(BaseHTTPRequestHandler):
    """Answers for one model, ``someone/tiny``, as the hub does."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        if path == "/api/models/someone/tiny/revision/main":
            data = json.dumps({"id": "someone/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}).encode()
        elif path == f"/api/models/someone/tiny/tree/{COMMIT}":
            rows = [{"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in FILES.items()]
            data = json.dumps(rows).encode()
        elif path.startswith(f"/someone/tiny/resolve/{COMMIT}/"):
            data = FILES[path.rsplit("/", 1)[-1]]
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if "/tiny/" in path else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if path.startswith("/api") else "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_etag(data)}"')
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    SmallHub.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), SmallHub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


# huggingface_hub reads its environment when it is imported: hence a process of its own.
PROGRAM = """
import json, sys
from farm3d.core.errors import Farm3DError
from farm3d.core.hub import resolve_model
for source, keywords in json.loads(sys.argv[1]):
    try:
        folder, name = resolve_model(source, files=["config.json", "model*.safetensors"], **keywords)
        print(json.dumps([name, str(folder), sorted(path.name for path in folder.iterdir())]))
    except Farm3DError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def answers(questions: list[tuple[str, dict]], home: Path, endpoint: str) -> list[list]:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'farm3d[diffusion]'")
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(questions)], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_only_what_is_asked_for_is_fetched_and_then_found_without_a_network(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    fetched, unknown, revision = answers(
        [("someone/tiny", {}), ("someone/else", {}), ("someone/tiny", {"revision": "no-such-branch"})], tmp_path, endpoint
    )
    assert fetched[0] == "someone/tiny" and fetched[2] == ["config.json", "model.safetensors"]
    assert not [path for path in SmallHub.asked if path.endswith((".bin", ".py"))]
    assert unknown[0] == revision[0] == "InputError" and "the hub has no such model" in unknown[1]
    nobody = "http://127.0.0.1:9"  # the port that discards: nothing listens
    again, never = answers([("someone/tiny", {"local_files_only": True}), ("someone/else", {"local_files_only": True})], tmp_path, nobody)
    assert again == fetched
    assert never[0] == "MissingPartError" and "\n" not in never[1]


def test_a_hub_out_of_reach_is_one_line(tmp_path: Path) -> None:
    ((kind, message),) = answers([("someone/tiny", {})], tmp_path, "http://127.0.0.1:9")
    assert kind == "MissingPartError" and message.startswith("someone/tiny: ") and "\n" not in message


def test_a_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_model("someone/tiny", files=[]) == (Path("someone/tiny"), "tiny")


@pytest.mark.parametrize("source", ["", "a", "a/b/c", "../a", "a b/c", "https://example.com/a", Path("a/b")])
def test_what_can_be_neither_folder_nor_id(source: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if source == "":
        assert resolve_model(source, files=[])[0] == Path()  # the folder one is in, as everywhere
        return
    with pytest.raises(InputError, match="no such folder"):
        resolve_model(source, files=[])


@pytest.mark.parametrize(
    "data, message", [(b"{", "not readable as JSON"), (b"\xff\xfe", "JSON"), (b"3", "expected an object"), (b"[" * 9999, "JSON")]
)
def test_json_that_is_none(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_json(tmp_path / "config.json")


def test_json_that_is_missing_too_large_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        read_json(tmp_path / "config.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(ModelError, match="larger than 16 MiB"):
        read_json(tmp_path / "large.json")
    with pytest.raises(ModelError, match="cannot be read"):
        read_json(tmp_path)


@pytest.mark.parametrize("key", ["auto_map", "quantization_config"])
def test_configs_that_would_make_a_library_act(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({key: {}}))
    with pytest.raises(ModelError, match=r"never run|not read"):
        read_config(tmp_path)


def test_weights_are_whole_or_in_shards_and_never_pickled(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only safetensors are read"):
        weight_files(tmp_path, stem="model")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        weight_files(tmp_path, stem="model")
    for number in (2, 1):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").touch()
    assert [path.name for path in weight_files(tmp_path, stem="model")] == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    with pytest.raises(ModelError, match=r"has no model\.fp16\.safetensors, but model-0"):
        weight_files(tmp_path, stem="model", variant="fp16")
    (tmp_path / "model.safetensors").touch()
    assert weight_files(tmp_path, stem="model") == [tmp_path / "model.safetensors"]


def test_a_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    digest = digest_of(tmp_path, [a, b])
    assert digest == digest_of(tmp_path, [b, a]) != digest_of(tmp_path, [a])
    a.write_text("2")
    b.write_text("1")
    assert digest_of(tmp_path, [a, b]) != digest


def test_without_the_library_a_folder_still_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert resolve_model(tmp_path, files=[])[0] == tmp_path
    with pytest.raises(MissingPartError, match=r"pip install 'farm3d\[diffusion\]'"):
        resolve_model("someone/tiny", files=[])
