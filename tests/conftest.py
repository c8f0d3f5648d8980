"""What tests of several rooms need: the published data, a finished study, a web server, composed parameters."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of one that wait, spinning, for their own take the other's time.
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")  # read when numpy and torch are imported, which is later

# No deadline for one example: how fast a machine is proves nothing about behaviour.
settings.register_profile("promptroute", deadline=None)
settings.load_profile("promptroute")

ROOT = Path(__file__).parents[1]
CEMS = ROOT.parent / "shared" / "data" / "cems"


@cache
def piece(file: Path) -> str:
    """Name the piece of work that a test file belongs to: itself where all of it is slow, else its room.

    One worker does a piece, so a room's session fixtures are made once.
    """
    whole = "\npytestmark = pytest.mark.slow\n" in file.read_text(encoding="utf-8")
    return str(file) if whole else "/".join(file.relative_to(ROOT).parts[:2])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the pieces with the most slow tests first, then the largest: no worker shall begin a long one at the end."""
    every = Counter(piece(item.path) for item in items)
    slow = Counter(piece(item.path) for item in items if item.get_closest_marker("slow"))

    def turn(item: pytest.Item) -> tuple[int, int, str]:
        name = piece(item.path)
        return -slow[name], -every[name], name

    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand the workers of `-n` whole pieces, in the order above."""
    from xdist.scheduler import LoadScopeScheduling

    class Pieces(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return piece(ROOT / nodeid.split("::")[0])

    config.option.loadscopereorder = False
    return Pieces(config, log)


@pytest.fixture(autouse=True, scope="session")
def dvc_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """DVC keeps what it knows of each project outside of it: not for good, where the project is a test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc-site")))
        yield


@pytest.fixture(scope="session")
def cems_root() -> Path:
    """The folder of CEMS's published data."""
    if not CEMS.is_dir():
        pytest.skip(f"the published CEMS data is not at {CEMS}")
    return CEMS


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of a small study in which every stage has run, which nobody changes, and what each of them printed."""
    from tests.stages.small import run_chain

    folder = tmp_path_factory.mktemp("finished")
    return folder, run_chain(folder)


@pytest.fixture
def compose() -> Callable[..., dict[str, Any]]:
    """Compose conf/: (overrides..., config=None) → plain values; config=None composes the groups alone."""

    def composed(*overrides: str, config: str | None = None) -> dict[str, Any]:
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        with initialize_config_dir(str(ROOT / "conf"), version_base=None):
            values = OmegaConf.to_container(compose(config, overrides=list(overrides)), resolve=True)
        assert isinstance(values, dict)
        return values  # type: ignore[return-value]

    return composed


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Serve a folder over http on this machine: (folder, handler=…) → its address."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    servers = []

    def start(folder: Path, handler: type[SimpleHTTPRequestHandler] = _Quiet) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()  # polls for its end
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
