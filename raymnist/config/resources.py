"""What one process occupies of a node: a trial, or one that embeds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raymnist.settings import Settings


class Resources(Settings):
    """What one trial occupies; fractions of a GPU share it. `auto` is 1 where a node has a GPU, else 0.

    accelerator: the type of GPU or other accelerator that a node must have, as Ray names it, such as `A100`.
    custom: amounts of the resources that nodes were started with. max_concurrent: trials at the same time.
    """

    cpus: float = Field(1, gt=0)
    gpus: float | Literal["auto"] = "auto"
    accelerator: str | None = None
    custom: dict[str, Annotated[float, Field(gt=0)]] = {}
    max_concurrent: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_gpu_at_most(self) -> Self:
        if self.gpus != "auto" and not 0 <= self.gpus <= 1:
            raise ValueError(
                f"gpus: expected auto or 0 to 1, received {self.gpus:g}; a trial trains on one GPU, several GPUs train "
                "several trials"
            )
        return self

    @model_validator(mode="after")
    def _names_custom_resources(self) -> Self:
        for name in self.custom:
            if name in ("CPU", "GPU", "memory", "object_store_memory") or name.startswith(
                ("accelerator_type:", "node:")
            ):
                raise ValueError(
                    f"custom.{name}: expected a resource of your own; Ray's have keys, cpus, gpus, accelerator"
                )
        return self
