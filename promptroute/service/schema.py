"""The bodies of POST /route and POST /next."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from promptroute.core.plain import Plain
from promptroute.router.types import Next

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Question(BaseModel):
    """Prompts, and what may differ from how the router decides by itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompts: list[str] = Field(min_length=1, description="texts to generate an image from")
    tradeoff: Amount | None = Field(None, description="decide by quality - tradeoff * dollars instead")
    slack: Amount | None = Field(
        None, description="decide by the cheapest model within so much of the best quality instead"
    )
    models: list[str] | None = Field(None, min_length=1, description="models that may be chosen")

    def choosing(self) -> Plain:
        """Give the arguments of `Router.route` but the prompts."""
        return {"tradeoff": self.tradeoff, "slack": self.slack, "models": self.models}


class Choice(BaseModel):
    """The choice for a prompt. Costs are dollars per image; quality is the router's score, higher is better."""

    model: str
    cost: float
    quality: dict[str, float]
    costs: dict[str, float]
    reason: str


class Choices(BaseModel):
    """A choice for each prompt, in their order."""

    decisions: list[Choice]


class Sight(BaseModel):
    """Prompts, and the scores of the images that each of them has."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompts: list[str] = Field(min_length=1, description="texts to generate an image from")
    seen: list[Plain] | None = Field(
        None,
        description="for each prompt: model → quality of its image, or its scores by name; null where it failed",
    )
    models: list[str] | None = Field(None, min_length=1, description="models that may be asked")


class Steps(BaseModel):
    """What to do next for each prompt, in their order."""

    steps: list[Next]


class Refusal(BaseModel):
    """Why a request was not answered, in one sentence."""

    error: str
