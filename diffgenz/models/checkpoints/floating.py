"""fp8 and 4-bit floats under one setting for all layers.

Read as by transformers and vLLM (`fp8`, `fbgemm_fp8`, `mxfp4`) and by SGLang (`w4afp8`,
`w8a8_int8`).
"""

from collections.abc import Callable

from diffgenz.models.blocks.module import ATTENTION, EXPERTS, MLP
from diffgenz.models.checkpoints.integers import skipped
from diffgenz.models.checkpoints.kv_cache import cache_of
from diffgenz.models.checkpoints.rules import Rules, everywhere
from diffgenz.models.checkpoints.schemes import Scheme, fp8_block, integers, scheme
from diffgenz.models.checkpoints.settings import Settings


def block_of(settings: Settings, key: str) -> tuple[int, int] | None:
    """Rows and columns that share a scale: [128, 128], [128] or "128x128"; None without them.

    Raises:
        InputError: it is something else.
    """
    value = settings.get(key)
    if value is None:
        return None
    sizes = value.lower().split("x") if isinstance(value, str) else value
    sizes = [sizes] if isinstance(sizes, int) and not isinstance(sizes, bool) else sizes
    if not isinstance(sizes, list) or len(sizes) not in (1, 2):
        raise settings.bad(key, "is no size of a block, such as [128, 128]")
    numbers = []
    for size in sizes:
        is_number = isinstance(size, int) and not isinstance(size, bool)
        if not is_number and not (isinstance(size, str) and size.strip().isdigit()):
            raise settings.bad(key, "is no size of a block, such as [128, 128]")
        numbers.append(int(size))
    if not all(0 < number < 2**20 for number in numbers):
        raise settings.bad(key, "is no size of a block, such as [128, 128]")
    return numbers[0], numbers[-1]


def fp8(settings: Settings, expert_dtype: str | None = None) -> Rules:
    """fp8 weights and inputs, with a scale per tensor, channel or block.

    Arguments:
        settings: the section.
        expert_dtype: "fp4" where the routed experts are in MXFP4 instead (DeepSeek-V4, whose scales
            are of one byte).

    Raises:
        InputError: it cannot be read.
    """
    block = block_of(settings, "weight_block_size")
    narrow = expert_dtype == "fp4"
    usual = scheme("fp8", "fp8")
    if block in ((1, 32), (32, 1)):
        usual = scheme("mxfp8", "mxfp8")
    elif block is not None:
        usual = fp8_block(*block, scale=1.0 if narrow else 4.0, activations="fp8")
    default = everywhere(usual)
    if narrow:
        default[EXPERTS] = scheme("mxfp4", "fp8")
    return Rules(skipped(settings), default, cache_of(settings))


def w4afp8(settings: Settings) -> Rules:
    """4-bit experts in groups of 128, and all else in blocks of fp8 (SGLang)."""
    group = settings.whole("group_size")
    experts = integers(4, 128 if group is None else group, activations="fp8")
    usual = fp8_block(128, 128, activations="fp8")
    default = {ATTENTION: usual, MLP: usual, EXPERTS: experts}
    return Rules(skipped(settings), default, cache_of(settings))


def uniform(each: Scheme, *kinds: str) -> Callable[[Settings], Rules]:
    """The reader of a method that has no settings but the modules that stay in dtype.

    Arguments:
        each: the scheme of its modules.
        kinds: the kinds of these modules; default: all but the LM head.
    """

    def read(settings: Settings) -> Rules:
        default = everywhere(each) if not kinds else dict.fromkeys(kinds, each)
        return Rules(skipped(settings), default, cache_of(settings))

    return read
