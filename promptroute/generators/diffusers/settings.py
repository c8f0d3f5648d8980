"""Settings of a diffusers pipeline's parts."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from promptroute.core.plain import Plain

_MODEL = ConfigDict(
    extra="forbid",
    frozen=True,
    strict=True,
    allow_inf_nan=False,
    protected_namespaces=(),
    serialize_by_alias=True,
)


class Part(BaseModel):
    """A network that takes the place of the pipeline's own.

    Args:
        class: a name in diffusers, as AutoencoderTiny.
        model: a folder, or a hub id.
        revision: for a hub id, its commit, 40 hexadecimal digits.
        subfolder: where in the folder or repository.
    """

    model_config = _MODEL

    kind: str = Field(alias="class")
    model: str
    revision: str | None = None
    subfolder: str | None = None


class Scheduler(BaseModel):
    """A scheduler in place of the model's own.

    Args:
        class: a name in diffusers, as EulerDiscreteScheduler.
        further: its settings, put over those of the model's.
    """

    model_config = ConfigDict(**{**_MODEL, "extra": "allow"})

    kind: str = Field(alias="class")

    @property
    def settings(self) -> Plain:
        """Return the settings that differ from the model's scheduler."""
        return dict(self.model_extra or {})


class Lora(BaseModel):
    """A low-rank adapter (LoRA) over the pipeline's networks.

    Args:
        model: a folder, or a hub id.
        weight_name: a .safetensors file in it.
        revision: for a hub id, its commit, 40 hexadecimal digits.
        scale: how strongly it counts; 0 is without.
    """

    model_config = _MODEL

    model: str
    weight_name: str
    revision: str | None = None
    scale: float = 1.0

    @field_validator("weight_name")
    @classmethod
    def _is_safe(cls, name: str) -> str:
        if not name.endswith(".safetensors"):
            raise ValueError("it must name a .safetensors file; other formats can run code")
        return name
