"""A study to spoil, and the ways to spoil it."""

import contextlib
import csv
import dataclasses
import io
import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from promptroute.core.errors import UserError
from promptroute.io.files import sha256
from promptroute.runtime.compose import compose
from tests.stages.small import judge, params, path_of, run

FIRST = path_of("nima", "sdxl-turbo")  # the file that the prompts are taken from
OTHER = path_of("nima", "amused")
BASE = "Model_Perf/nima_score/nima_score_with_time_{}.csv"

Break = Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        what: the input, for the document.
        stage: what is run: the stage's name and arguments.
        says: the error, up to the semicolon that ends it; `…` stands for what differs between machines,
            `CEMS` for the folder of the published data, `http://HOST` for a web server.
        fix: the rest of the error: what to do.
        breaks: spoils the folder of a finished study.
        overrides: of the parameters, as after `-S`.
        stdin: what the stage reads from standard input.
        server: "", or how a web server serves the published data in place of the folder: "whole", "broken" or
            "dead"; or what a model hub answers: "hub: unknown", "hub: gated", "hub: no revision", "hub: dead".
    """

    what: str
    stage: str
    says: str
    fix: str
    breaks: Break = lambda folder: None
    overrides: tuple[str, ...] = ()
    stdin: bytes = b""
    server: str = ""

    @property
    def error(self) -> str:
        """The whole error."""
        return f"{self.says}; {self.fix}"


def put(path: str, content: str | bytes) -> Break:
    """Write a file."""

    def spoil(folder: Path) -> None:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)

    return spoil


def forged(old: bytes, new: bytes) -> Break:
    """Change the router's facts, and list the file as it is now."""

    def spoil(folder: Path) -> None:
        router = folder / "data" / "router"
        file, manifest = router / "router.json", router / "manifest.json"
        file.write_bytes(file.read_bytes().replace(old, new))
        listed = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**listed, "router.json": sha256(file)}))

    return spoil


def remove(path: str) -> Break:
    """Take a file or folder away."""

    def spoil(folder: Path) -> None:
        (folder / path).rename(folder / "taken-away")

    return spoil


def edit(path: str, change: Callable[[bytes], bytes]) -> Break:
    """Change a file's bytes."""

    def spoil(folder: Path) -> None:
        file = folder / path
        content = file.read_bytes()
        changed = change(content)
        assert changed != content, f"{path}: nothing was changed"
        file.write_bytes(changed)

    return spoil


def line(path: str, number: int, change: Callable[[str], str]) -> Break:
    """Change one line of a file; 1 is the header."""

    def of_all(content: bytes) -> bytes:
        lines = content.decode().splitlines(keepends=True)
        lines[number - 1] = change(lines[number - 1])
        return "".join(lines).encode()

    return edit(path, of_all)


def cell(path: str, number: int, column: int, value: str) -> Break:
    """Set one cell of a csv file's line."""

    def change(row: str) -> str:
        cells = next(csv.reader([row]))
        cells[column] = value
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(cells)
        return out.getvalue()

    return line(path, number, change)


def twice(path: str, number: int) -> Break:
    """Repeat one line of a file."""
    return line(path, number, lambda row: row + row)


def images(folder: Path) -> None:
    """Give the model `m` a shard of the study's prompts, none of which it could generate."""
    import pandas as pd

    from promptroute.core.image import Image
    from promptroute.io.images import write_shard

    asked = pd.read_parquet(folder / "data/prompts.parquet")
    rows = [
        Image(row.prompt_id, row.prompt, "m", 0, "failed", "a reason", None, None, None)
        for row in asked.itertuples()
    ]
    write_shard(folder / "data/images/m/part-00000.parquet", rows)


OPEN_CLIP = "promptroute.encoders.open_clip.OpenClip"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def generating(**generator: Any) -> Break:
    """Make the study's parameters those of generating with one model, `m`: the tiny `sd` unless another is named."""

    def spoil(folder: Path) -> None:
        import yaml

        from tests.generators.tiny import save

        if "model" not in generator:
            save("sd", folder / "sd")
        given = {"model": "sd", "steps": 1, "guidance": 1.0, **generator}
        encoder = {"_target_": OPEN_CLIP, "model": "ViT-B-32", "pretrained": "openai", "revision": "0" * 40}
        nima = {"_target_": "promptroute.scorers.nima.Nima", "checkpoint": "nima.hdf5"}
        params = {
            "models": {"m": {"label": "m", "generator": {"_target_": "promptroute.generators.diffusers.model.DiffusersModel", **given}}},
            "generation": {"seeds": [0], "shard_prompts": 2, "max_failed": 0.0},
            "compute": {"device": "cpu", "threads": 1},
            "image_encoder": {"clip": encoder},
            "scorers": {"nima": nima},
        }  # fmt: skip
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    return spoil


def own_clip() -> Break:
    """Make the study's image encoder a tiny one of its own."""

    def spoil(folder: Path) -> None:
        import yaml

        from tests.scorers.conftest import make_clip

        make_clip(folder / "clip")
        params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        params["image_encoder"]["clip"] = {"_target_": OPEN_CLIP, "model": "clip"}
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    return spoil


def then(*breaks: Break) -> Break:
    """One after the other."""

    def spoil(folder: Path) -> None:
        for one in breaks:
            one(folder)

    return spoil


def tensors(path: str, change: Callable[[dict[str, Any]], None]) -> Break:
    """Change the tensors of a safetensors file, a dict by name."""

    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / path)
        change(state)
        save_file(state, folder / path, metadata={"format": "pt"})

    return spoil


def few_prompts(folder: Path) -> None:
    """Leave three of the study's prompts."""
    file = folder / "data/prompts.parquet"
    pd.read_parquet(file).head(3).to_parquet(file, index=False)


def provoke(case: Case, folder: Path) -> str:
    """Run the stage in a spoilt copy of a finished study, and return the error without its `error: `.

    What differs from machine to machine is named as `Case.says` has it.
    """
    stage, *arguments = shlex.split(case.stage)
    with contextlib.ExitStack() as stack:
        how = case.server.removeprefix("hub: ")
        address = stack.enter_context(serving(folder / "cems", how)) if case.server else ""
        environment = {"HF_HUB_OFFLINE": "1"}
        overrides = list(case.overrides)
        if case.server.startswith("hub: "):
            stack.enter_context(hub_at(address, folder))
        elif address:
            overrides += [f"+published.table.source.address={address}", "published.table.source.folder=null"]
        if stage == "compose":
            with pytest.raises(UserError) as caught:
                compose(folder / "params.yaml", arguments, Path(__file__).parents[2])
            return str(caught.value)
        if (folder / "params.yaml").is_file() and overrides:
            params(folder, *overrides)
        if stage == "promptroute":
            ran = judge(folder, *arguments[1:])
        else:
            ran = run(folder, stage, *arguments, stdin=case.stdin, **environment)
    lines = [text for text in ran.err.splitlines() if text and "%|" not in text]  # a progress bar is no error
    assert (ran.status, ran.out, len(lines)) == (1, "", 1), ran
    assert lines[0].startswith("error: ")
    said = lines[0].removeprefix("error: ")
    for text, name in ((address, "http://HOST"), (str(folder / "cems"), "CEMS"), (str(folder), "STUDY")):
        said = said.replace(text, name) if text else said
    return said


_REFUSALS = {
    "unknown": (401, "RepoNotFound", "Invalid username or password."),
    "gated": (401, "GatedRepo", "Access to model owner/name is restricted."),
    "no revision": (404, "RevisionNotFound", "Invalid rev id: 0"),
}
"""What the model hub answers: status, and the two headers by which its client tells the reasons apart."""


@contextlib.contextmanager
def hub_at(address: str, folder: Path) -> Iterator[None]:
    """Let the model hub's client ask `address`, as often as ever but without pauses, and keep its cache in `folder`."""
    import huggingface_hub.constants
    from huggingface_hub import hf_api
    from huggingface_hub.utils import _http

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_http, "time", SimpleNamespace(**{**vars(time), "sleep": lambda _: None}))
        patch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        patch.setattr(hf_api.api, "endpoint", address)
        yield


@contextlib.contextmanager
def serving(folder: Path, how: str) -> Iterator[str]:
    """Serve a folder over http: "whole", "broken" (bodies shorter than announced), or "dead" (nobody there).

    Or answer as the model hub refuses: a key of `_REFUSALS`.
    """

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def send_head(self) -> Any:
            if how not in _REFUSALS:
                return super().send_head()
            status, code, message = _REFUSALS[how]
            self.send_response(status)
            for name, value in {
                "X-Error-Code": code,
                "X-Error-Message": message,
                "Content-Length": "0",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            return None

        def copyfile(self, source: Any, outputfile: Any) -> None:
            content = source.read()
            outputfile.write(content[: len(content) // 2] if how == "broken" else content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    address = f"http://127.0.0.1:{server.server_address[1]}"
    if how == "dead":
        server.server_close()
        yield address
        return
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()  # polls for its end
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
