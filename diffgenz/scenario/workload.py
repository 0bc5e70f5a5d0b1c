"""What is asked of a platform: requests, their prompts and their answers."""

from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf


class Workload(Record):
    """Requests that arrive together and are served together.

    Arguments:
        batch: requests in flight, over all replicas.
        input_tokens: prompt tokens of each.
        output_tokens: tokens generated for each; the first comes out of the prefill.
        images: images in the prompt of each, on top of `input_tokens`; for models with a vision
            tower.

    Raises:
        InputError: a number below 1 (images: below 0), infinite or NaN.
    """

    batch: Leaf = number(at_least=1, default=1.0)
    input_tokens: Leaf = number(at_least=1, default=1024.0)
    output_tokens: Leaf = number(at_least=1, default=128.0)
    images: Leaf = number(default=0.0)
