"""Shards of work on Ray: a pool of actors that hold the loaded model, on this machine or a cluster.

Why actors over shards and not Ray Data: a shard's result is a file at a known place, so nothing flows between stages that
Ray Data could stream; and its actor pools know no time limit for a batch (ray-project/ray #45661), and may wait forever
for an actor that died (#62746). What is lost with a worker here is at most one shard each, which is done again.
"""

import contextlib
import hashlib
import io
import logging
import os
import pickle
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, model_validator

from promptroute.core.component import Component
from promptroute.core.errors import UserError, reason
from promptroute.core.plain import Plain
from promptroute.io.cache import cache_root, digest
from promptroute.io.files import temporary_name, write_text
from promptroute.runtime.executors import Executor

Shard = TypeVar("Shard")
Task = tuple[int, int]
"""Position of a shard, and which attempt at it this is."""
_log = logging.getLogger(__name__)
_POLL, _KNOCK = 0.5, 10.0
"""Seconds between two looks at workers that are busy, and for a cluster to answer."""


class RayActors(Executor):
    """Shards on a pool of Ray actors, each of which loads the model once.

    The pool grows to `max_workers` while there are shards for them and the cluster has room, also on nodes that join
    later, and shrinks as shards run out. A worker or node that is lost, or a batch that hangs, costs the shard that it was
    at, which is done again elsewhere. Cache and data must lie in a folder that every node shares.

    Args:
        address: of a running cluster; None: that of RAY_ADDRESS, and a local one of its own where there is none.
        workers: actors that must find room, 1 or more; fewer where there are fewer shards.
        max_workers: actors at once; None: as many as there is room for.
        cpus: of one worker; None: as many as it has threads, which are this process's own, since they decide last bits.
        gpus: of one worker; fractions share a card.
        memory_gb: of one worker, for the scheduler; None: not looked at.
        patience: seconds without a finished batch (or shard, of work that doesn't tell) after which a worker is given up.
        start_seconds: how long `workers` may take to find room and load their code.
        retries: how often a shard is tried again after its worker was lost.
    """

    shares_memory = False

    address: str | None = None
    workers: int = Field(1, ge=1)
    max_workers: int | None = Field(None, ge=1)
    cpus: float | None = Field(None, ge=0)
    gpus: float = Field(0.0, ge=0)
    memory_gb: float | None = Field(None, gt=0)
    patience: float = Field(900.0, gt=0)
    start_seconds: float = Field(300.0, gt=0)
    retries: int = Field(3, ge=0)

    @model_validator(mode="after")
    def _bounds(self) -> "RayActors":
        if self.max_workers is not None and self.max_workers < self.workers:
            raise ValueError(f"max_workers is {self.max_workers}, below workers, which is {self.workers}")
        return self

    @property
    def device(self) -> str | None:
        """Return the device that workers compute on, whatever this machine has."""
        return "cuda" if self.gpus > 0 else "cpu"

    def gpu(self) -> str:
        """Ask a worker what its card is called; see `Executor.gpu`.

        Raises:
            UserError: no node has a card, or none is free within `start_seconds`.
        """
        ray = connect(self.address)
        if self.hopeless(ray):
            raise UserError(self.no_room(ray))
        task = ray.remote(num_cpus=0, num_gpus=self.gpus)(_card).remote()
        try:
            return str(ray.get(task, timeout=self.start_seconds))
        except ray.exceptions.GetTimeoutError as error:
            ray.cancel(task, force=True)
            raise UserError(self.no_room(ray)) from error

    @property
    def threads(self) -> int:
        """Return torch's threads of one worker: those of this process (compute.threads), since they decide last bits."""
        torch = sys.modules.get("torch")
        return 1 if torch is None else int(torch.get_num_threads())

    def needs(self) -> dict[str, float]:
        """Return what one worker takes, by Ray's names."""
        found = {"CPU": float(self.threads) if self.cpus is None else self.cpus, "GPU": self.gpus}
        return found if self.memory_gb is None else {**found, "memory": self.memory_gb * 2**30}

    def hopeless(self, ray: Any) -> bool:
        """Tell whether no worker will ever find room: this machine hasn't enough, and no other can join."""
        if self.address or os.environ.get("RAY_ADDRESS"):
            return False
        total = ray.cluster_resources()
        return any(total.get(name, 0) < need for name, need in self.needs().items())

    def no_room(self, ray: Any) -> str:
        """Say what a worker asks for, and what the cluster has."""
        own, total = self.needs(), ray.cluster_resources()
        memory = f", {self.memory_gb:g} GB of memory" if self.memory_gb is not None else ""
        within = "" if self.hopeless(ray) else f" within {self.start_seconds:g} s"
        has = f"{total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs, {total.get('memory', 0) / 2**30:.1f} GB of memory"
        return (
            f"Ray found no room for {self.workers} worker(s){within}: each asks for {own['CPU']:g} CPUs, "
            f"{self.gpus:g} GPUs{memory}, and the whole cluster has {has}; ask for less, or add nodes"
        )

    def map(self, work: Callable[[Shard], Any], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Any]]:
        """Do the shards on the cluster; see `Executor.map`.

        Raises:
            UserError: Ray is absent, the cluster can't be reached or has no room, a node has other code or weights or
                does not share the folder, or a shard lost its worker more than `retries` times.
        """
        if not shards:
            return
        pool = _Pool(self, work, connect(self.address), shards)
        try:
            for position, answer in pool.run():
                yield shards[position], answer
        finally:
            pool.close()


def connect(address: str | None) -> Any:
    """Return Ray's module, connected.

    Raises:
        UserError: it is not installed, the cluster can't be reached, or runs another version.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("compute=ray needs Ray; pip install 'promptroute[ray]'") from error
    if ray.is_initialized():
        return ray
    where = address or os.environ.get("RAY_ADDRESS")
    if where:
        _knock(where)
    local: Plain = (
        {} if where else {"object_store_memory": 200_000_000}
    )  # shards are files: little goes through memory
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(
            address=where or "local",  # else it would join whatever cluster was last started on this machine
            include_dashboard=None if where else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,
        )
    except Exception as error:  # Ray raises plain ones too, as where the machine is too busy for it to start
        raise _unusable(
            where or "this machine", " ".join(str(error).split()) or type(error).__name__
        ) from error
    return ray


def _knock(where: str) -> None:
    """See that something answers at HOST:PORT: Ray itself would try for minutes.

    Raises:
        UserError: nothing does.
    """
    if where.startswith("ray://"):
        raise UserError(
            f"the Ray cluster at {where} can't be used: ray:// is a client from outside, and work must run where the folder "
            f"is shared; start it on a node of the cluster, with address auto or HEAD:6379"
        )
    host, _, port = where.rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), _KNOCK).close()
        except (OSError, OverflowError) as error:
            raise _unusable(where, reason(error)) from error


def _unusable(where: str, said: str) -> UserError:
    fix = "start it with `ray start --head`, or correct the address"
    if "timed out during startup" in said:
        fix = "it is too busy for Ray to start within 30 s, so stop other work, or try again"
    if "ersion mismatch" in said:
        fix = "install one version of Ray and Python on every node"
    return UserError(f"the Ray cluster at {where} can't be used ({said}); {fix}")


def _card() -> str:
    """Name the card of the worker that runs this."""
    import torch

    return torch.cuda.get_device_name(0)


@cache
def code_digest() -> str:
    """Return the SHA-256 of the library's own code, so that no node runs another version of it."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def identities(work: object) -> dict[str, str]:
    """Return what decides the results of the components that some work holds: name → digest of its fingerprint."""
    return {
        name: digest(value.fingerprint())
        for name, value in vars(work).items()
        if isinstance(value, Component)
    }


@dataclass(frozen=True)
class Home:
    """What a worker must find where it runs.

    Attributes:
        folder: the driver's own working folder.
        token: a file in the cache with `text`.
        text: what only this run has written there.
        code: digest of the library's code.
        components: digests of the work's components.
        environment: variables that the work reads.
        threads: of one worker.
    """

    folder: str
    token: str
    text: str
    code: str
    components: dict[str, str]
    environment: dict[str, str]
    threads: int

    def enter(self) -> None:
        """Go there, and make sure that it is the same place, code and weights.

        Raises:
            UserError: names what differs.
        """
        node = os.uname().nodename
        try:
            os.chdir(self.folder)
            shared = Path(self.token).read_text(encoding="utf-8") == self.text
        except OSError:
            shared = False
        if not shared:
            raise UserError(
                f"node {node} does not see {self.folder} of the machine that asked; share that folder (with cache/ and "
                f"data/) under the same path on every node"
            )
        os.environ.update(self.environment)
        if code_digest() != self.code:
            raise UserError(f"node {node} has another version of promptroute; install the same on every node")

    def check(self, work: object) -> None:
        """Make sure that components have the same settings, weights and libraries here.

        Raises:
            UserError: names the first that differs.
        """
        found = identities(work)
        for name, expected in self.components.items():
            if found.get(name) != expected:
                raise UserError(
                    f"node {os.uname().nodename} has other weights or libraries for the {name} than the machine that asked, or "
                    f"another kind of processor or card; use the same on every node"
                )


class Worker:
    """Does shards in a process of its own; becomes an actor."""

    def __init__(self, home: Home, pickled: bytes) -> None:
        home.enter()
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # for what is imported later, as torch, if at all
            os.environ[name] = str(home.threads)
        self._work = pickle.loads(pickled)  # the driver's own, over Ray's connection
        threadpool_limits(home.threads)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(home.threads)
        home.check(self._work)
        self._last = time.monotonic()
        self._work.tick = self._tick

    def _tick(self, count: int) -> None:
        self._last = time.monotonic()

    def node(self) -> str:
        """Say where it runs; answers once it is ready."""
        return f"{os.uname().nodename} (process {os.getpid()})"

    def do(self, shard: Any) -> Any:
        """Do a shard."""
        self._last = time.monotonic()
        return self._work(shard)

    def quiet(self) -> float:
        """Return the seconds since it began a shard or finished a batch."""
        return time.monotonic() - self._last


@dataclass(eq=False)
class _Member:
    """An actor as the driver sees it: getting ready, free, or busy with a task since some time."""

    actor: Any
    name: str = ""
    task: Task | None = None
    pending: Any = None
    probe: Any = None
    heard: float = field(default_factory=time.monotonic)


class _Pool:
    """The actors of one pass, and which shard each is at."""

    def __init__(
        self, settings: RayActors, work: Callable[[Shard], Any], ray: Any, shards: Sequence[Shard]
    ) -> None:
        self._settings, self._ray, self._shards = settings, ray, shards
        self._waiting: deque[Task] = deque((position, 0) for position in range(len(shards)))
        self._members: list[_Member] = []
        self._done: Counter[str] = Counter()
        self._ready = 0
        token = cache_root() / "tmp" / temporary_name("ray")
        write_text(token, text := os.urandom(16).hex())
        self._token = token
        kept = {name: os.environ[name] for name in ("DVC_ROOT", "PROMPTROUTE_CEMS") if name in os.environ}
        here = os.getcwd(), str(token.resolve()), text, code_digest(), identities(work), kept
        self._given = ray.put(Home(*here, settings.threads)), ray.put(packed(work))
        kind = ray.remote(Worker)
        needs = settings.needs()
        memory: Plain = {"memory": int(needs["memory"])} if "memory" in needs else {}
        self._kind = kind.options(
            num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_concurrency=2, max_restarts=0, **memory
        )

    def run(self) -> Iterator[tuple[int, Any]]:
        """Yield the position of each shard with its answer, as it ends."""
        least, started = min(self._settings.workers, len(self._shards)), time.monotonic()
        while self._waiting or any(member.task for member in self._members):
            self._grow()
            pending = {member.pending: member for member in self._members if member.pending is not None}
            finished, _ = self._ray.wait(list(pending), num_returns=1, timeout=_POLL)
            for reference in finished:
                yield from self._take(pending[reference], reference)
            if self._ready < least and (
                time.monotonic() - started > self._settings.start_seconds
                or self._settings.hopeless(self._ray)
            ):
                raise UserError(self._settings.no_room(self._ray))
            self._look_after()
        for name, count in self._done.most_common():
            _log.info("%d shards by %s", count, name)

    def _grow(self) -> None:
        """Ask for as many actors as there are shards for; Ray starts those that there is room for."""
        wanted = min(
            len(self._waiting) + sum(member.task is not None for member in self._members), self._most()
        )
        while len(self._members) < wanted:
            actor = self._kind.remote(*self._given)
            self._members.append(_Member(actor, pending=actor.node.remote()))
        for member in [one for one in self._members if one.name and one.task is None]:
            if self._waiting:
                member.task = self._waiting.popleft()
                member.heard, member.probe = time.monotonic(), None
                member.pending = member.actor.do.remote(self._shards[member.task[0]])
            else:
                self._drop(member)

    def _most(self) -> int:
        """Return how many actors to ask for: as many as there is room for by now, so that a node that joins is used."""
        if self._settings.max_workers is not None:
            return self._settings.max_workers
        total = self._ray.cluster_resources()
        room = [total.get(name, 0) / need for name, need in self._settings.needs().items() if need > 0]
        return max(self._settings.workers, int(min(room, default=1)))

    def _take(self, member: _Member, reference: Any) -> Iterator[tuple[int, Any]]:
        """Take what an actor answered: that it is ready, or a shard's answer, or why there is none."""
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except errors.RayError as error:
            if member.task is None and "creation task" in str(error):
                raise _cause(error) from None
            self._lose(member, _why(error))
            return
        member.pending = None
        if member.task is None:
            member.name = str(answer)
            self._ready += 1
            _log.info("ready: %s", member.name)
            return
        position, _ = member.task
        member.task = None
        self._done[member.name] += 1
        _log.info("shard %d by %s", position, member.name)
        yield position, answer

    def _look_after(self) -> None:
        """Give up actors that have finished no batch for too long."""
        now = time.monotonic()
        for member in [one for one in self._members if one.task is not None]:
            if member.probe is not None and self._ray.wait([member.probe], timeout=0)[0]:
                with contextlib.suppress(
                    self._ray.exceptions.RayError
                ):  # its shard's answer says what became of it
                    member.heard = now - self._ray.get(member.probe)
                member.probe = None
            if member.probe is None:
                member.probe = member.actor.quiet.remote()
            if now - member.heard > self._settings.patience:
                self._lose(member, f"no batch was finished for {self._settings.patience:g} s")

    def _lose(self, member: _Member, why: str) -> None:
        """Let another actor do the shard of one that is gone, or can't be reached, whose place is then free again."""
        self._drop(member)
        if member.task is None:
            return
        position, attempt = member.task
        _log.warning("shard %d lost on %s (%s); it is done again", position, member.name, why)
        if attempt >= self._settings.retries:
            raise UserError(
                f"shard {position} was given up {attempt + 1} times ({why}, at last on {member.name}); what is finished is "
                f"kept, so fix the cause and run it again"
            )
        self._waiting.appendleft((position, attempt + 1))

    def _drop(self, member: _Member) -> None:
        self._members.remove(member)
        self._ray.kill(member.actor)

    def close(self) -> None:
        """End every actor."""
        for member in self._members:
            self._ray.kill(member.actor)
        self._members = []
        self._token.unlink(missing_ok=True)


def _cause(error: Exception) -> UserError:
    """Return the error of ours that an actor died of while it was made, or what else it says."""
    text = str(error)
    marker = "promptroute.core.errors.UserError: "
    if marker in text:
        return UserError(text.split(marker, 1)[1].splitlines()[0])
    last = [line for line in text.splitlines() if line.strip()][-1].strip()
    return UserError(f"a worker can't start ({last}); install promptroute with its extras on every node")


def _why(error: Exception) -> str:
    """Say in a few words why a worker is gone."""
    text = str(error)
    if "OutOfMemory" in type(error).__name__ or "running low on memory" in text:
        return "its node ran out of memory; let a worker ask for more memory_gb or cpus, so that fewer share a node"
    gone = type(error).__name__.startswith(("ActorDied", "ActorUnavailable"))
    return "its worker was lost" if gone else reason(error)


class _Pickler(pickle.Pickler):
    """Sends components as they were made: what they have loaded stays here."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Component):
            return _made_again, (
                type(value),
                {name: getattr(value, name) for name in type(value).model_fields},
            )
        return NotImplemented


def _made_again(kind: type[Component], settings: Plain) -> Component:
    return kind(**settings)


def packed(work: object) -> bytes:
    """Pickle work for another process; models that its components have loaded are left out."""
    file = io.BytesIO()
    _Pickler(file).dump(work)
    return file.getvalue()
