"""Say what went wrong when a model was to be fetched or read, and what to do."""

from collections.abc import Iterator

from promptroute.core.errors import UserError


def no_loading_bars() -> None:
    """Keep transformers' progress bars of loading off the terminal: a line for what takes a second."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def load_error(what: str, device: str, place: str, error: BaseException, otherwise: str) -> UserError:
    """Return the error for a model that can't be loaded.

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
    """Return (reason, fix) of a known cause, from the outermost error that tells."""
    from huggingface_hub import errors as hub
    from safetensors import SafetensorError

    page = f"https://huggingface.co/{place}"
    for cause in _chain(error):
        names = {kind.__name__ for kind in type(cause).__mro__}
        if isinstance(cause, hub.GatedRepoError):  # before RepositoryNotFoundError, whose kind it is
            return (
                "the hub gives it only to those who have accepted its terms",
                f"accept them on {page} and log in (`hf auth login`, or HF_TOKEN)",
            )
        if isinstance(cause, hub.RevisionNotFoundError):
            return (
                "the hub has no such revision of it",
                f"set revision to a commit of {page}/commits/main (40 hexadecimal digits)",
            )
        if isinstance(cause, hub.RepositoryNotFoundError):
            return (
                "the hub knows no such model, or it is private",
                "check OWNER/NAME; for a private one, log in (`hf auth login`, or HF_TOKEN)",
            )
        if isinstance(cause, hub.RemoteEntryNotFoundError):
            return (
                f"the hub's repository lacks a file ({_line(cause)})",
                "check variant, subfolder and weight_name; only safetensors are read",
            )
        # The hub's client and diffusers each have an HTTP library of their own, so its errors go by name.
        if names & {"TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"} or (
            isinstance(cause, ConnectionError)
        ):
            return (
                f"the hub can't be reached ({type(cause).__name__}), and the model is not whole in the cache",
                "check the network and HF_ENDPOINT (HF_HUB_OFFLINE=1 reads the cache alone), or give the path of "
                "a folder that `hf download` filled elsewhere",
            )
        if isinstance(cause, SafetensorError) or "Unable to load weights from checkpoint file" in str(cause):
            return f"a file of weights is corrupt ({_line(cause)})", "fetch it again"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _line(error: BaseException) -> str:
    """Return the error's kind, and the first line of its message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
