"""The page of people's votes as one folder: it opens from a disk, and gives its rater a file to send back."""

import json
from importlib.resources import files
from pathlib import Path

from promptroute.core.errors import UserError
from promptroute.evaluation.design import with_repeats
from promptroute.io.files import atomic_path
from promptroute.io.votes import write_key
from promptroute.service.people.study import Gallery


def key_path(folder: Path) -> Path:
    """Return where the key of a folder lies: beside it, for whoever gets the folder must not know."""
    return folder.with_name(f"{folder.name}.key.json")


def write_folder(gallery: Gallery, folder: Path, repeats: float) -> None:
    """Write the page, its tasks and its images; and beside it the key that says which models they show.

    Args:
        gallery: what is shown.
        folder: where to; neither it nor a key of its name may exist, for old answers need the old key.
        repeats: share of tasks that are shown a second time, 0 to 1.

    Raises:
        UserError: something is there already.
    """
    for path in (folder, key_path(folder)):
        if path.exists():
            raise UserError(f"{path}: is there already; name another folder, or remove it")
    asked = gallery.asked
    tasks = [gallery.shown(task, asked.subject(task)) for task in with_repeats(list(asked.subjects), repeats)]
    study = {**asked.about(), "tasks": tasks}
    # Within a script, "</" could end it, whatever it stands in.
    text = json.dumps(study, ensure_ascii=True).replace("</", "<\\/")
    with atomic_path(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        page = files("promptroute.service.people").joinpath("page.html").read_text(encoding="utf-8")
        (temporary / "index.html").write_text(page, encoding="utf-8")
        (temporary / "study.js").write_text(f"window.STUDY = {text};\n", encoding="utf-8")
        for name in sorted(gallery.images, key=lambda name: (gallery.shards[name], name)):
            (temporary / "images" / f"{name}.png").write_bytes(gallery.png(name) or b"")
        write_key(key_path(folder), asked)
