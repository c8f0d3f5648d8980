"""Plain values, as JSON holds them, checked by a pydantic model."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from promptroute.core.errors import UserError
from promptroute.core.plain import Plain

Model = TypeVar("Model", bound=BaseModel)


def unique(pairs: list[tuple[str, object]]) -> Plain:
    """Make an object of JSON's pairs; two readers may take duplicate keys for different things."""
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key is a duplicate")
    return found


def first_fault(error: ValidationError) -> str:
    """Return where the first fault of an error is, and what: `sets.PP.prompts: Field required`."""
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"


def parse(kind: type[Model], value: object, where: object, fix: str) -> Model:
    """Check plain values.

    Raises:
        UserError: they are not what `kind` says; names `where`, the first fault and `fix`.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{where}: {first_fault(error)}; {fix}") from error
