"""What went wrong when a model was to be fetched or read, in words that say what to do."""

from collections.abc import Iterator

from promptroute.core.errors import UserError


def load_error(what: str, device: str, place: str, error: BaseException, otherwise: str) -> UserError:
    """One clear error for a model that can't be loaded.

    Args:
        what: the model as a person knows it, as "the model OWNER/NAME".
        device: where it was to go.
        place: its hub id, or folder.
        error: what the libraries raised.
        otherwise: what to do where the cause is none of the known ones.
    """
    reason, fix = _cause(place, error) or (_line(error), otherwise)
    return UserError(f"{what} can't be loaded on {device} ({reason}); {fix}")


def _cause(place: str, error: BaseException) -> tuple[str, str] | None:
    """(reason, fix) of a known cause, from the outermost error that tells."""
    from huggingface_hub import errors as hub
    from safetensors import SafetensorError

    page = f"https://huggingface.co/{place}"
    for one in _chain(error):
        names = {kind.__name__ for kind in type(one).__mro__}
        if isinstance(one, hub.GatedRepoError):  # before RepositoryNotFoundError, whose kind it is
            return (
                "the hub gives it only to those who have accepted its terms",
                f"accept them on {page} and log in (`hf auth login`, or HF_TOKEN)",
            )
        if isinstance(one, hub.RevisionNotFoundError):
            return (
                "the hub has no such revision of it",
                f"set revision to a commit of {page}/commits/main (40 hexadecimal digits)",
            )
        if isinstance(one, hub.RepositoryNotFoundError):
            return (
                "the hub knows no such model, or it is private",
                "check OWNER/NAME; for a private one, log in (`hf auth login`, or HF_TOKEN)",
            )
        if isinstance(one, hub.RemoteEntryNotFoundError):
            return (
                f"the hub's repository lacks a file ({_line(one)})",
                "check variant, subfolder and weight_name; only safetensors are read",
            )
        # The hub's client and diffusers each have an HTTP library of their own, so its errors go by name.
        if names & {"TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"} or (
            isinstance(one, ConnectionError)
        ):
            return (
                f"the hub can't be reached ({type(one).__name__}), and the model is not whole in the cache",
                "check the network and HF_ENDPOINT (HF_HUB_OFFLINE=1 draws from the cache), or give the path of "
                "a folder that `hf download` filled elsewhere",
            )
        if isinstance(one, SafetensorError) or "Unable to load weights from checkpoint file" in str(one):
            return f"a file of weights is torn ({_line(one)})", "fetch it again"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _line(error: BaseException) -> str:
    """The error's kind, and the first line of its message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
