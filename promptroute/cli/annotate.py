"""`promptroute annotate`: let people compare, rate or mark a study's images, blind."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptroute.cli.extras import needs_extra
from promptroute.core.errors import UserError
from promptroute.core.votes import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from promptroute.io.votes import Asked
    from promptroute.service.people.study import Gallery

STUDY = typer.Argument(help="folder of the study, with params.yaml and data/images", metavar="STUDY")
QUESTION = typer.Option(
    "--question", "-q", metavar="TEXT", help="consistency, preference, alignment, or a text of your own"
)
MODE = typer.Option("--mode", help="pairs of models; ratings, 1 to 5, or marks on single images")
VOTES = typer.Option(
    "--votes", metavar="FILE", help="file that answers go to (SQLite); goes on where it stands"
)
STATIC = typer.Option(
    "--static",
    metavar="DIR",
    help="write the page as this folder instead, which opens from a disk; its key is kept beside it",
)
TAKE = typer.Option(
    "--import", metavar="FILE", help="take in a file that such a page saved, again for each; needs --key"
)
KEY = typer.Option("--key", metavar="FILE", help="key of the folder that the imported files are answers to")
LABEL_STUDIO = typer.Option("--label-studio", help="with --import: the files are Label Studio's JSON exports")
EXPORT = typer.Option("--export", metavar="FILE", help="write the votes on pairs as Label Studio's JSON")
PROMPTS = typer.Option("--prompts", help="how many of the study's prompts; all by default", min=1)
SEEDS = typer.Option("--seeds", help="images of each model and prompt; all by default", min=1)
REPEATS = typer.Option("--repeats", help="share of tasks that are shown a second time", min=0, max=0.5)
SEED = typer.Option("--seed", help="decides prompts, orders and sides", min=0)
HOST = typer.Option("--host", help="address to listen on; 0.0.0.0 is every network")
PORT = typer.Option("--port", "-p", help="port to listen on; 0 takes a free port")
ALLOW_HOST = typer.Option(
    "--allow-host", metavar="NAME", help="another name that requests may be for, again for each"
)


def annotate(
    study: Annotated[Path, STUDY] = Path("."),
    question: Annotated[str, QUESTION] = "preference",
    mode: Annotated[Mode, MODE] = "pairs",
    votes: Annotated[Path, VOTES] = Path("votes.sqlite"),
    static: Annotated[Path | None, STATIC] = None,
    take: Annotated[list[Path] | None, TAKE] = None,
    key: Annotated[Path | None, KEY] = None,
    label_studio: Annotated[bool, LABEL_STUDIO] = False,
    export: Annotated[Path | None, EXPORT] = None,
    prompts: Annotated[int | None, PROMPTS] = None,
    seeds: Annotated[int | None, SEEDS] = None,
    repeats: Annotated[float, REPEATS] = 0.05,
    seed: Annotated[int, SEED] = 0,
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int, PORT] = 8001,
    allow_host: Annotated[list[str] | None, ALLOW_HOST] = None,
) -> None:
    """Serve a page on which people judge a study's images without knowing their models; or write it as a folder.

    Whoever reaches the page can vote under any name: let only those reach it who should.
    """
    from promptroute.io.votes import read_key

    asked = {"--export": export, "--import": take or None, "--static": static}
    if len(given := [name for name, value in asked.items() if value is not None]) > 1:
        raise typer.BadParameter(f"{given[0]} and {given[1]} are two things to do; give one of them")
    if label_studio and not take:
        raise typer.BadParameter("--label-studio goes with --import FILE")
    if export is not None:
        print(f"annotate: {export_votes(votes, export)}")
        return
    if take and key is not None:
        print(f"annotate: {take_in(votes, take, read_key(key), label_studio)}")
        return
    if key is not None:
        raise typer.BadParameter("--key goes with --import FILE")
    from promptroute.runtime.params import load_params
    from promptroute.service.people.study import open_gallery

    models = load_params(study / "params.yaml")["models"]
    gallery = open_gallery(
        study / "data", models, mode=mode, question=question, prompts=prompts, seeds=seeds, seed=seed
    )
    if take:
        print(f"annotate: {take_in(votes, take, gallery.asked, label_studio)}")
    elif static is not None:
        from promptroute.service.people.static import key_path, write_folder

        write_folder(gallery, static, repeats)
        print(
            f"annotate: {len(gallery.asked.subjects)} tasks in {static}/index.html; keep {key_path(static)}, which says "
            "whose images they are, to yourself"
        )
    else:
        _serve(gallery, votes, repeats, host, port, allow_host or ())


def take_in(votes: Path, files: "Sequence[Path]", asked: "Asked", label_studio: bool) -> str:
    """Put files of answers into a file of votes; all of them are read before the first is kept.

    Raises:
        UserError: a file is of another study, or an answer is not what it should be.
    """
    from promptroute.io.votes import Votes, add_all, read_exported, read_label_studio

    read = read_label_studio if label_studio else read_exported
    answers = [answer for file in files for answer in read(file, asked)]
    with Votes(votes, asked) as kept:
        new, known = add_all(kept, answers)
    return f"{new} answers are new in {votes}, {known} were there already"


def export_votes(votes: Path, out: Path) -> str:
    """Write votes on pairs as Label Studio's JSON.

    Raises:
        UserError: they are no votes on pairs.
    """
    from promptroute.io.votes import Votes, write_label_studio

    with Votes(votes) as kept:
        if kept.mode != "pairs":
            raise UserError(f"{votes}: holds {kept.mode}; only votes on pairs can be exported")
        rows = kept.answers()
    write_label_studio(out, rows)
    return f"{len(rows)} votes in {out}"


def _serve(
    gallery: "Gallery", votes: Path, repeats: float, host: str, port: int, names: "Sequence[str]"
) -> None:
    with needs_extra("the page", "serve"):
        from promptroute.service.connections import fit_connections
        from promptroute.service.gates import allowed_hosts
        from promptroute.service.limits import Limits
        from promptroute.service.people.app import create_app
    from promptroute.cli.serve import run
    from promptroute.io.votes import Votes

    hosts = allowed_hosts(names, host)
    limits = Limits(connections=fit_connections(Limits().connections))
    tasks = len(gallery.asked.subjects)
    line = f"annotate: {tasks} tasks on {{}}, answers go to {votes} (Ctrl-C stops it)"
    with Votes(votes, gallery.asked) as kept:
        run(create_app(gallery, kept, repeats=repeats, hosts=hosts), limits, host, port, line)
