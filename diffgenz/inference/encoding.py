"""Encoding: the vision tower's pass over the images of a batch, before its prompts are prefilled.

One pass per attention group, over all images of its requests at once, on the first pipeline stage; its tensor-parallel ranks share it. Its time and
energy are part of the first token's; images lengthen the prompt and the KV cache like any other tokens.
"""

from typing import NamedTuple

import jax.numpy as jnp

from diffgenz.core.checks import check_at_most
from diffgenz.core.smooth import SHARPNESS, Scalar, ceil_share
from diffgenz.inference.iteration import Machine, exposed
from diffgenz.inference.timing.roofline import operators_time
from diffgenz.models.model import Model
from diffgenz.operators.operator import Operator
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload


class Encoding(NamedTuple):
    """What one device executes, and how its ranks talk.

    Arguments:
        operators: of a pass over at least one image.
        reductions: all-reduces: how many of how many B.
        passes: 1, or images per batch where that is less: what a pass counts.
    """

    operators: tuple[Operator, ...]
    reductions: tuple[tuple[Scalar, Scalar], ...]
    passes: Scalar

    @classmethod
    def of(
        cls,
        model: Model,
        workload: Workload,
        plan: Parallelism,
        precision: Precision,
        requests: Scalar,
    ) -> "Encoding | None":
        """The encoding of the images of `requests`, or None where the model has no tower."""
        if model.vision is None:
            return None
        images = ceil_share(requests, 1 / plan.attention_data) * workload.images
        few = images < 1
        at_least_one = jnp.where(few, 1.0, images)
        operators = model.vision.operators(at_least_one, precision, 1 / plan.tensor)
        return cls(
            operators, model.vision.reductions(at_least_one, precision), jnp.where(few, images, 1.0)
        )


def encoding_communication(
    encoding: Encoding, machine: Machine, plan: Parallelism, sharpness: float = SHARPNESS
) -> tuple[Scalar, Scalar]:
    """Seconds of all-reduces that do not hide behind computing, and the share of them that is launching."""
    count = sum((n for n, _ in encoding.reductions), start=jnp.zeros(()))
    moving = sum(
        (n * machine.group.all_reduce(volume, sharpness) for n, volume in encoding.reductions),
        start=jnp.zeros(()),
    )
    launching = count * machine.collective_launch
    visible = exposed(
        moving + launching, operators_time(encoding.operators, machine.rates, sharpness), plan
    )
    return encoding.passes * visible, launching / jnp.maximum(moving + launching, 1e-30)


def encoding_time(
    encoding: Encoding, machine: Machine, plan: Parallelism, sharpness: float = SHARPNESS
) -> Scalar:
    """Seconds from images to image tokens."""
    communication, _ = encoding_communication(encoding, machine, plan, sharpness)
    return (
        encoding.passes * operators_time(encoding.operators, machine.rates, sharpness)
        + communication
    )


def prompted(model: Model, workload: Workload) -> Workload:
    """The workload as the language model sees it: image tokens are part of the prompt, and no images are left."""
    if model.vision is None:
        return workload
    return workload.replace(
        input_tokens=workload.input_tokens + workload.images * model.vision.tokens, images=0.0
    )


def check_images(model: Model, workload: Workload) -> None:
    """Raise `InputError` where there are images and no tower to see them. Traced numbers pass."""
    if model.vision is None:
        check_at_most(
            "images",
            workload.images,
            0.0,
            f"since {model.name} has no vision tower that is modelled; leave them out",
        )
