"""Where computing happens: decided once in a stage, then passed."""

from stages.records import BadInput


def pick_device(device: str, threads: int | None = None) -> str:
    """Decide the device of a stage, and how many threads torch may use on the CPU.

    Args:
        device: "auto" (a GPU where there is one, else the CPU), or a torch device, as "cpu" or "cuda:1".
        threads: torch's CPU threads; None leaves torch's own choice. The number decides how a sum is
            cut, and so the last bits of a result.

    Returns:
        A torch device's name.

    Raises:
        BadInput: the device isn't there, or `threads` is no number of threads.
    """
    import torch

    if threads is not None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise BadInput(f"compute.threads: {threads!r}; expected a whole number of 1 or more, or null")
        torch.set_num_threads(threads)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"compute.device={device}: can't be used ({reason}); use compute=auto or compute=cpu"
        ) from error
    return device
