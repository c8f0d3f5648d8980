"""Which text-to-image model should generate this prompt, and what does that cost?

from promptroute import Router

Router.load("data/router").route(["a large red star"])[0].model
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptroute.router.router import Router
    from promptroute.router.types import Decision, Next

__all__ = ["Decision", "Next", "Router"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that `import promptroute` alone loads nothing."""
    if name in __all__:
        from promptroute.router import router, types

        return getattr(router if name == "Router" else types, name)
    raise AttributeError(f"module 'promptroute' has no attribute {name!r}")
