"""Work that a cluster's processes can import: squares a number into a file, as slowly or badly as told."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.io.files import write_text
from promptroute.runtime.shards import Work


@dataclass
class Squares(Work[int]):
    """Write number² to `folder`/number; see the module.

    Attributes:
        folder: where results go.
        seconds: how long each takes, until there is a file `folder`/hurry.
        more: number → seconds that it takes besides.
        once: number → "kill" (the process ends), "hang", or "fail" (an error of ours), at its first attempt.
        always: the same, at every attempt.
    """

    ticks = True
    folder: Path
    seconds: float = 0.0
    more: dict[int, float] = field(default_factory=dict, kw_only=True)
    once: dict[int, str] = field(default_factory=dict)
    always: dict[int, str] = field(default_factory=dict)

    def path(self, shard: int) -> Path:
        return self.folder / str(shard)

    def is_done(self, shard: int) -> bool:
        return self.path(shard).is_file()

    def __call__(self, shard: int) -> tuple[int, int]:
        if not (self.folder / "hurry").exists():
            time.sleep(self.seconds + self.more.get(shard, 0.0))
        what = self.always.get(shard, "")
        if shard in self.once:
            mark = self.folder / f"tried-{shard}"
            what = "" if mark.exists() else self.once[shard]
            mark.touch()
        if what == "kill":
            os._exit(9)
        if what == "hang":
            time.sleep(600)
        if what == "fail":
            raise UserError(f"number {shard} is bad; give another")
        write_text(self.path(shard), str(shard * shard))
        return shard, os.getpid()
