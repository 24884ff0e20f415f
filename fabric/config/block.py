"""What every block of ``fabric.yaml`` is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fabric.config.units import LabelKey, LabelValue

Labels = dict[LabelKey, LabelValue]
FilePath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00\n]+$")]


class Block(BaseModel):
    """A block of the file: frozen, and no key it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
