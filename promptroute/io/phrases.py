"""Lists of phrases that prompts are made of: our own, or a file."""

from pathlib import Path

from promptroute.core.errors import UserError

OWN = Path(__file__).with_name("phrases.txt")


def read_phrases(path: Path | str | None = None) -> dict[str, list[str]]:
    """Read lists of phrases: a phrase a line, UTF-8; a line `# NAME` begins the list NAME; blank lines mean nothing.

    Args:
        path: the file; None: our own lists of subjects, mediums, styles, light, colours and views.

    Returns:
        List's name → its phrases, each once, in the file's order.

    Raises:
        UserError: the file is absent, is no text, or a list is empty.
    """
    path = OWN if path is None else Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable list of phrases ({error}); give a UTF-8 text file") from error
    lists: dict[str, list[str]] = {}
    name = "phrases"
    for line in (line.strip() for line in lines):
        if line.startswith("#"):
            name = line.lstrip("# ")
            lists.setdefault(name, [])
        elif line:
            lists.setdefault(name, []).append(line)
    if not lists or (empty := [name for name, phrases in lists.items() if not phrases]):
        what = f"the list {empty[0]!r} has no phrase" if lists else "holds no phrase"
        raise UserError(f"{path}: {what}; give a phrase a line, below a line `# NAME` for each list")
    return {name: list(dict.fromkeys(phrases)) for name, phrases in lists.items()}
