"""The number formats of a kernel's operands, as kernels, tables and fits are known by them."""

from typing import NamedTuple

from diffgenz.core.formats import FORMATS, Format


class KernelFormat(NamedTuple):
    """What a kernel reads, and as what it multiplies.

    Text has one name where they agree ("bf16"), and both where they differ ("int4/bf16").

    Arguments:
        weights: format of the weights; in latent attention, of the cache.
        activations: format of the activations; in latent attention, the dtype.
    """

    weights: str
    activations: str

    @classmethod
    def of(cls, text: str) -> "KernelFormat":
        """The formats that `text` names: "format", or "weights/activations"."""
        weights, _, activations = text.partition("/")
        return cls(weights, activations or weights)

    def __str__(self) -> str:
        same = self.weights == self.activations
        return self.weights if same else f"{self.weights}/{self.activations}"

    @property
    def sizes(self) -> tuple[float, float]:
        """Bytes per element of weights and of activations."""
        return FORMATS[self.weights].size, FORMATS[self.activations].size

    @property
    def known_as(self) -> str:
        """The format by which fitted kernels of linear layers are known.

        It is the format of the weights, or "weights/activations" where the two have different
        peaks.
        """
        same = FORMATS[self.weights].peak == FORMATS[self.activations].peak
        return self.weights if same else str(self)

    @property
    def peak(self) -> str:
        """The peak at which the kernel multiplies."""
        return self.wider.peak

    @property
    def wider(self) -> Format:
        """The wider of the two, as which the kernel multiplies: its peak is the kernel's."""
        formats = FORMATS[self.weights], FORMATS[self.activations]
        return max(formats, key=lambda each: each.bits)
