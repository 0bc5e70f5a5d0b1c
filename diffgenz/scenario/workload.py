"""What is asked of a platform: requests, their prompts and their answers."""

from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf


class Workload(Record):
    """Requests that arrive together and are served together.

    Arguments:
        batch: requests in flight over all replicas, at least 1.
        input_tokens: prompt tokens of each request, at least 1.
        output_tokens: tokens generated for each request, at least 1; the first comes out of the
            prefill.
        images: images in the prompt of each request, on top of `input_tokens`, at least 0; for
            models with a vision tower.

    Raises:
        InputError: a number below 1 (images: below 0), infinite or NaN.
    """

    batch: Leaf = number(at_least=1, default=1.0)
    input_tokens: Leaf = number(at_least=1, default=1024.0)
    output_tokens: Leaf = number(at_least=1, default=128.0)
    images: Leaf = number(default=0.0)
