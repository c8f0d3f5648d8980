"""Shards on Ray: the same files as in one process, whatever is lost on the way."""

import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from promptroute.core.component import Component
from promptroute.core.errors import UserError
from promptroute.runtime import cluster
from promptroute.runtime.cluster import Home, RayActors, code_digest, connect, packed
from promptroute.runtime.executors import InProcess
from promptroute.runtime.shards import run
from tests.runtime.numbers_work import Squares

ROOT = Path(__file__).parents[2]


def home(place: Path, **changes: Any) -> Home:
    (place / "token").write_text("secret")
    facts = {
        "folder": str(place),
        "token": str(place / "token"),
        "text": "secret",
        "code": code_digest(),
        "components": {},
        "environment": {},
        "threads": 1,
    }
    return Home(**{**facts, **changes})


class TestRefused:
    def test_without_ray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(UserError, match=r"needs Ray; pip install 'promptroute\[ray\]'"):
            connect(None)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"folder": "/nowhere/at/all"}, "does not see /nowhere/at/all"),
            ({"text": "another"}, "does not see"),
            ({"code": "0" * 64}, "another version of promptroute"),
        ],
    )
    def test_a_node_that_differs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=message):
            home(tmp_path, **changes).enter()

    def test_other_weights(self, tmp_path: Path) -> None:
        work = Squares(tmp_path)
        work.executor = InProcess()  # type: ignore[attr-defined]  # any component that work holds
        home(tmp_path, components=cluster.identities(work)).check(work)
        with pytest.raises(UserError, match="other weights or libraries for the executor"):
            home(tmp_path, components={"executor": "0" * 64}).check(work)

    def test_bounds(self) -> None:
        with pytest.raises(UserError, match="below workers"):
            RayActors(workers=3, max_workers=2)

    def test_nobody_answers(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{free.getsockname()[1]}"
            with pytest.raises(
                UserError, match=rf"cluster at {place} can't be used \(.*refused.*ray start --head"
            ):
                connect(place)

    def test_a_busy_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ray = pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")

        def init(address: str, **_: Any) -> None:
            assert address == "local", "never a cluster of somebody else on this machine"
            raise Exception("The current node timed out during startup. This could happen because ...")

        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", init)
        with pytest.raises(
            UserError, match=r"cluster at this machine can't be used .*stop other work, or try again"
        ):
            connect(None)

    def test_a_client_from_outside(self) -> None:
        with pytest.raises(UserError, match="start it on a node of the cluster"):
            connect("ray://head:10001")

    @pytest.mark.parametrize(
        ("needs", "hopeless"), [({}, False), ({"gpus": 0.5}, True), ({"memory_gb": 9.0}, True)]
    )
    def test_no_room_here(
        self, monkeypatch: pytest.MonkeyPatch, needs: dict[str, float], hopeless: bool
    ) -> None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        machine = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0, "memory": 8.0 * 2**30})
        assert RayActors(cpus=1.0, **needs).hopeless(machine) == hopeless
        assert not RayActors(cpus=1.0, address="head:6379", **needs).hopeless(machine), "nodes may join"
        told = RayActors(cpus=1.0, **needs).no_room(machine)
        assert (
            "2 CPUs, 0 GPUs, 8.0 GB of memory; ask for less" in told and ("within 300 s" in told) != hopeless
        )

    def test_why_it_is_gone(self) -> None:
        exceptions = pytest.importorskip("ray.exceptions", reason="Ray is not installed (the extra `ray`)")
        assert "ran out of memory" in cluster._why(exceptions.OutOfMemoryError("Task was killed"))
        assert cluster._why(exceptions.ActorDiedError()) == "its worker was lost"
        # What Ray says of every worker that was killed names memory, among other causes.
        died = exceptions.ActorUnavailableError(
            "killed by the OOM killer due to high memory usage, or ...", None
        )
        assert cluster._why(died) == "its worker was lost"


class Loaded(Component):
    """Loads something that can't be pickled."""

    size: int = 1

    @cached_property
    def network(self) -> Any:
        return lambda: self.size


def test_sent_without_what_is_loaded(tmp_path: Path) -> None:
    work = Squares(tmp_path)
    work.model = Loaded(size=3)  # type: ignore[attr-defined]
    assert work.model.network() == 3  # type: ignore[attr-defined]
    there = pickle.loads(packed(work))
    assert there.folder == tmp_path and there.model == work.model  # type: ignore[attr-defined]
    assert "network" not in vars(there.model) and there.model.network() == 3


def test_threads_are_the_drivers() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert RayActors().threads == 3 and RayActors().needs() == {"CPU": 3.0, "GPU": 0.0}
        assert RayActors(cpus=0.5, gpus=0.25, memory_gb=2.0).needs() == {
            "CPU": 0.5,
            "GPU": 0.25,
            "memory": 2.0 * 2**30,
        }
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes with a processor each, all on this machine."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    import ray
    from ray.cluster_utils import Cluster

    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        small = {"num_cpus": 1, "object_store_memory": 100_000_000}
        made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        made.add_node(**small)
        made.small = small
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
class TestCluster:
    def on(self, nodes: Any, **settings: Any) -> RayActors:
        return RayActors(address=nodes.address, **{"cpus": 1.0, **settings})

    def test_same_files(self, nodes: Any, tmp_path: Path) -> None:
        """A worker is killed and another hangs, once each: every file is there, whole, and done by somebody else."""
        (tmp_path / "here").mkdir()
        (tmp_path / "there").mkdir()
        numbers = list(range(8))
        work = Squares(tmp_path / "there", 0.05, {2: "kill", 5: "hang"})
        notes: list[tuple[int, int]] = []
        there = run(work, numbers, self.on(nodes, patience=5.0), "squares", note=notes.append)
        here = run(Squares(tmp_path / "here"), numbers, InProcess(), "squares")
        assert [path.read_text() for path in there] == [path.read_text() for path in here]
        assert sorted(number for number, _ in notes) == numbers
        assert len({process for _, process in notes}) > 2

    def test_errors_come_through(self, nodes: Any, tmp_path: Path) -> None:
        work = Squares(tmp_path, always={1: "fail"})
        with pytest.raises(UserError, match="number 1 is bad; give another"):
            run(work, [0, 1], self.on(nodes), "squares")

    def test_given_up_in_the_end(self, nodes: Any, tmp_path: Path) -> None:
        work = Squares(tmp_path, always={1: "kill"})
        with pytest.raises(UserError, match="given up 2 times"):
            run(work, [1], self.on(nodes, retries=1), "squares")

    def test_no_room(self, nodes: Any, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"asks for 1 CPUs, 8 GPUs, and the whole cluster has 2 CPUs, 0 GPUs"
        ):
            run(Squares(tmp_path), [1], self.on(nodes, gpus=8.0, start_seconds=2.0), "squares")

        with pytest.raises(UserError, match=r"10000 GB of memory, and the whole cluster has 2 CPUs"):
            run(Squares(tmp_path), [1], self.on(nodes, memory_gb=10_000.0, start_seconds=2.0), "squares")
        with pytest.raises(UserError, match=r"no room for 3 worker\(s\)"):
            run(Squares(tmp_path, 60.0), [1, 2, 3], self.on(nodes, workers=3, start_seconds=8.0), "squares")
        with pytest.raises(UserError, match="the whole cluster has 2 CPUs, 0 GPUs"):
            self.on(nodes, gpus=1.0, start_seconds=2.0).gpu()

    def test_shrinks(self, nodes: Any, tmp_path: Path) -> None:
        """The worker that has nothing to do any more gives its processor back."""
        import ray

        left: list[float] = []
        run(
            Squares(tmp_path, more={1: 8.0}),
            [0, 1],
            self.on(nodes),
            "squares",
            note=lambda _: left.append(ray.available_resources().get("CPU", 0.0)),
        )
        assert left[-1] == 1.0

    def test_other_versions(self, nodes: Any, tmp_path: Path) -> None:
        code = (
            "import sys, ray, ray._private.utils as utils; sys.path.insert(0, sys.argv[1])\n"
            "from promptroute.runtime.cluster import connect\n"
            "from promptroute.core.errors import UserError\n"
            "for version in ('1.0.0', sys.version.split()[0]), (ray.__version__, '2.7.18'):\n"
            "    utils.compute_version_info = lambda: version\n"
            "    try: connect(sys.argv[2])\n"
            "    except UserError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT), nodes.address], capture_output=True, text=True, check=True
        )
        first, second = done.stdout.splitlines()
        assert "Ray: 1.0.0" in first and "Python: 2.7.18" in second
        assert all("install one version of Ray and Python on every node" in line for line in (first, second))

    def test_code_that_nodes_lack(self, nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "only_here.py").write_text(
            "from tests.runtime.numbers_work import Squares\nclass Own(Squares): ..."
        )
        monkeypatch.syspath_prepend(tmp_path)
        work = importlib.import_module("only_here").Own(tmp_path)
        with pytest.raises(
            UserError, match=r"can't start \(.*No module named 'only_here'\); install promptroute"
        ):
            run(work, [1], self.on(nodes), "squares")

    def test_training_data(self, nodes: Any) -> None:
        from mini.scenes import Object, Scene, render
        from mini.spread import in_order

        scenes = [
            Scene((Object("star", "red", "small", "solid", x, 20),), "white", "plain") for x in (10, 30, 50)
        ]
        made = list(in_order(render, scenes, executor=self.on(nodes), chunk=1))
        assert [image.tobytes() for image in made] == [render(scene).tobytes() for scene in scenes]

    def test_a_node_leaves_and_another_joins(self, nodes: Any, tmp_path: Path) -> None:
        """A node is killed, and a later one takes work: it is waited for, however busy the machine is."""
        notes: list[tuple[int, int]] = []

        def note(done: tuple[int, int]) -> None:
            notes.append(done)
            if len({process for _, process in notes}) >= 3:
                (tmp_path / "hurry").touch()
            if len(notes) == 4:
                nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
            if len(notes) == 6:
                nodes.add_node(**nodes.small)

        numbers = list(range(200))
        executor = self.on(nodes, max_workers=3)
        paths = run(Squares(tmp_path, 1.0), numbers, executor, "squares", note=note)
        assert [path.read_text() for path in paths] == [str(number**2) for number in numbers]
        assert sorted(number for number, _ in notes) == numbers
        assert len({process for _, process in notes}) >= 3

    def test_driver_is_killed(self, nodes: Any, tmp_path: Path) -> None:
        """What was finished stays, and is not done again; nothing half-written is left."""
        code = (
            "import sys; sys.path.insert(0, sys.argv[2])\n"
            "from pathlib import Path\n"
            "from tests.runtime.numbers_work import Squares\n"
            "from promptroute.runtime.cluster import RayActors\n"
            "from promptroute.runtime.shards import run\n"
            "run(Squares(Path(sys.argv[1]), 0.3), list(range(12)), RayActors(address=sys.argv[3]), 'squares')\n"
        )
        arguments = [sys.executable, "-c", code, str(tmp_path), str(ROOT), nodes.address]
        with subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.DEVNULL) as driver:
            while len(list(tmp_path.glob("[0-9]*"))) < 3:
                time.sleep(0.1)
            driver.send_signal(signal.SIGKILL)
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("[0-9]*")}
        paths = run(Squares(tmp_path), list(range(12)), self.on(nodes), "squares")
        assert [path.read_text() for path in paths] == [str(number**2) for number in range(12)]
        late = {path.name: path.stat().st_mtime_ns for path in paths}
        # A shard that was under way at the kill may still end by itself; those before it are as they were.
        assert sum(late[name] == time for name, time in before.items()) == len(before)

    def test_images_are_equal(self, nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Images of a real pipeline from two nodes are those of one process, byte for byte."""
        from promptroute.generators.diffusers.model import DiffusersModel
        from promptroute.generators.run import generate_images
        from promptroute.io.images import ImageCache, ImageRequest

        monkeypatch.chdir(tmp_path)
        (tmp_path / "mini").symlink_to(ROOT / "mini")
        shards = [
            [ImageRequest(f"p{number}", f"{number} red circles", seed) for seed in (0, 1)]
            for number in range(4)
        ]
        made = {}
        for name, executor in (("here", InProcess()), ("there", self.on(nodes))):
            generator = DiffusersModel(model="mini/weights/diffusion", steps=2, guidance=0.0, batch_size=2)
            cache = ImageCache(Path("cache") / name, "same")
            images = generate_images(generator, "mini", shards, cache, executor=executor)
            made[name] = [path.read_bytes() for path in images.shards]
        assert made["here"] == made["there"]
