"""The bodies of POST /route."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

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

    def choosing(self) -> dict[str, Any]:
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


class Refusal(BaseModel):
    """Why a request was not answered, in one sentence."""

    error: str
