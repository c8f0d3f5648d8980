"""Shards of work on Ray: a pool of actors that hold the loaded model, on this machine or a cluster.

Why actors over shards and not Ray Data: a shard's result is a file at a known place, so nothing flows between stages that
Ray Data could stream; and its actor pools know no time limit for a batch (ray-project/ray #45661), and may wait forever
for an actor that died (#62746). What is lost with a worker here is at most one shard each, which is done again.
"""

import contextlib
import hashlib
import logging
import os
import pickle
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
from promptroute.io.files import write_text
from promptroute.runtime.executors import Executor

Shard = TypeVar("Shard")
Task = tuple[int, int]
"""Position of a shard, and which attempt at it this is."""
_log = logging.getLogger(__name__)
_POLL = 0.5
"""Seconds between two looks at workers that are busy."""


class RayActors(Executor):
    """Shards on a pool of Ray actors, each of which loads the model once.

    The pool grows to `max_workers` while there are shards for them and the cluster has room, also on nodes that join
    later, and shrinks as shards run out. A worker or node that is lost, or a batch that hangs, costs the shard that it was
    at, which is done again elsewhere. Cache and data must lie in a folder that every node shares.

    Args:
        address: of a running cluster; None: that of RAY_ADDRESS, and a local one of its own where there is none.
        workers: actors that must find room, 1 or more.
        max_workers: actors at once; None: as many as there is room for.
        cpus, gpus: of one worker; fractions share a card.
        memory_gb: of one worker, for the scheduler; None: not looked at.
        patience: seconds without a finished batch after which a worker is given up.
        start_seconds: how long the first worker may take to find room and load its code.
        retries: how often a shard is tried again after its worker was lost.
    """

    shares_memory = False

    address: str | None = None
    workers: int = Field(1, ge=1)
    max_workers: int | None = Field(None, ge=1)
    cpus: float = Field(1.0, ge=0)
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
    local: Plain = (
        {} if where else {"object_store_memory": 200_000_000}
    )  # shards are files: little goes through memory
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(
            address=where,
            include_dashboard=None if where else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,
        )
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        fix = "start it with `ray start --head`, or correct the address"
        if "ersion" in said:
            fix = "install one version of Ray and Python on every node"
        raise UserError(
            f"the Ray cluster at {where or 'this machine'} can't be used ({said.strip()}); {fix}"
        ) from error
    return ray


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
                    f"node {os.uname().nodename} has other weights or libraries for the {name} than the machine that asked; "
                    f"install the same on every node"
                )


class Worker:
    """Does shards in a process of its own; becomes an actor."""

    def __init__(self, home: Home, pickled: bytes) -> None:
        home.enter()
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        try:
            import torch

            torch.set_num_threads(home.threads)
        except ImportError:  # work without a network
            pass
        threadpool_limits(home.threads)
        self._work = pickle.loads(pickled)  # the driver's own, over Ray's connection
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
        token = cache_root() / "tmp" / f"ray-{os.getpid()}-{time.time_ns()}.token"
        write_text(token, text := os.urandom(16).hex())
        self._token = token
        kept = {name: os.environ[name] for name in ("DVC_ROOT", "PROMPTROUTE_CEMS") if name in os.environ}
        threads = max(1, int(settings.cpus))
        home = Home(os.getcwd(), str(token.resolve()), text, code_digest(), identities(work), kept, threads)
        self._given = ray.put(home), ray.put(pickle.dumps(work))
        kind = ray.remote(Worker)
        options: Plain = {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "max_concurrency": 2,
            "max_restarts": 0,
        }
        if settings.memory_gb is not None:
            options["memory"] = int(settings.memory_gb * 2**30)
        self._kind = kind.options(**options)

    def run(self) -> Iterator[tuple[int, Any]]:
        """Yield the position of each shard with its answer, as it ends."""
        started, ready = time.monotonic(), False
        while self._waiting or any(member.task for member in self._members):
            self._grow()
            pending = {member.pending: member for member in self._members if member.pending is not None}
            finished, _ = self._ray.wait(list(pending), num_returns=1, timeout=_POLL)
            for reference in finished:
                yield from self._take(pending[reference], reference)
            ready = ready or any(member.name for member in self._members) or bool(self._done)
            if not ready and time.monotonic() - started > self._settings.start_seconds:
                raise UserError(self._no_room())
            self._look_after()

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
        """Return how many actors to ask for: one more than there is room for, so that a node that joins is used."""
        if self._settings.max_workers is not None:
            return self._settings.max_workers
        total, own = self._ray.cluster_resources(), self._settings
        room = [
            total.get(name, 0) / need for name, need in (("CPU", own.cpus), ("GPU", own.gpus)) if need > 0
        ]
        return max(own.workers, int(min(room, default=1)))

    def _take(self, member: _Member, reference: Any) -> Iterator[tuple[int, Any]]:
        """Take what an actor answered: that it is ready, or a shard's answer, or why there is none."""
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except errors.ActorDiedError as error:
            cause = _first_cause(error)
            if cause is not None and member.task is None:
                raise cause from None
            self._lose(member, "its worker was lost")
            return
        except errors.RayError as error:
            self._lose(member, reason(error))
            return
        member.pending = None
        if member.task is None:
            member.name = str(answer)
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
                self._ray.kill(member.actor)
                self._lose(member, f"no batch was finished for {self._settings.patience:g} s")

    def _lose(self, member: _Member, why: str) -> None:
        """Let another actor do the shard of one that is gone."""
        self._members.remove(member)
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

    def _no_room(self) -> str:
        own, total = self._settings, self._ray.cluster_resources()
        asked = f"{own.cpus:g} CPUs, {own.gpus:g} GPUs" + (
            "" if own.memory_gb is None else f", {own.memory_gb:g} GB of memory"
        )
        has = f"{total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs, {total.get('memory', 0) / 2**30:.1f} GB of memory"
        return (
            f"no worker got ready within {own.start_seconds:g} s: each asks for {asked}, and the whole cluster has {has}; ask "
            f"for less, or add nodes"
        )

    def close(self) -> None:
        """End every actor."""
        for member in self._members:
            self._ray.kill(member.actor)
        self._members = []
        self._token.unlink(missing_ok=True)


def _first_cause(error: BaseException) -> Exception | None:
    """Return the error of ours that an actor died of while it was made."""
    text = str(error)
    marker = "promptroute.core.errors.UserError: "
    if marker in text:
        return UserError(text.split(marker, 1)[1].splitlines()[0])
    cause = error.__cause__
    return cause if isinstance(cause, UserError) else None
