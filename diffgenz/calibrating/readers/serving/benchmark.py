"""What a serving benchmark measured, whatever tool wrote it down. All times are in s."""

from dataclasses import dataclass, field

from diffgenz.serving.request_log import Requests


@dataclass(frozen=True)
class Latency:
    """How long something took over all requests that completed.

    Arguments:
        mean: s; None where only percentiles are known.
        percentiles: s by percentile, such as {50: median, 99: ...}.
    """

    mean: float | None = None
    percentiles: dict[float, float] = field(default_factory=dict)

    @property
    def typical(self) -> float | None:
        """The mean, or where it is not known the median, in s."""
        return self.percentiles.get(50.0) if self.mean is None else self.mean


@dataclass(frozen=True)
class Benchmark:
    """One run of a serving benchmark: the set-up, as far as the file says it, and what it measured.

    Arguments:
        place: the file, and the row in it where there are several, for messages.
        tool: what measured: "vllm bench serve".
        model: what the file calls the model; "" where it says nothing.
        system: what the file calls the accelerator; "" where it says nothing.
        engine: the software whose kernels ran, of `kernels.software.SOFTWARE`; "" where the file
            does not say.
        ranks: by word of the command line (gpus, tp, pp, dp, ep, attention-dp, cp).
        precision: the format of the weights as the file calls it; "" where it says nothing.
        kv_cache: the format of the KV cache in our words; "" where it says nothing.
        input_tokens: mean prompt tokens of a request.
        output_tokens: mean tokens generated for a request.
        range_ratio: lengths of requests are drawn evenly between this share of `input_tokens` and
            `output_tokens` and all of them; 1: all are alike. None: these are means, and how they
            scatter is not known.
        concurrency: requests in flight at most, over all replicas; None for no limit.
        rate: requests/s that arrive; None where they come as soon as others are done.
        burstiness: the squared coefficient of variation of the time between them: 1 for Poisson's.
        in_flight: mean number of requests in flight, where it was measured.
        together: whether they arrive together, as one batch, and none follows them.
        slots: requests that the server lets run at once; None where the file does not say it.
        request_iterations: iterations that pass before the server looks at a request, in the mean;
            None where the file does not say it.
        budget: tokens that it computes in one iteration; None where the file does not say it.
        log: when each request arrived, and its tokens; None where only averages are known.
        ttft: s until the first token of a request, with queueing.
        tpot: s between tokens of one request, the first left out, averaged over its generation.
        itl: s between tokens, each counted for itself.
        end_to_end: s until the last token of a request.
        throughput: output tokens/s of all requests.
        completed: requests that completed.
        failed: requests that did not.
        speculative: what the file says of speculative decoding; "" without.
        unmodelled: what of the run no estimate describes, such as disaggregated prefill; "" for
            nothing.
    """

    place: str
    tool: str
    model: str = ""
    system: str = ""
    engine: str = ""
    ranks: dict[str, int] = field(default_factory=dict)
    precision: str = ""
    kv_cache: str = ""
    input_tokens: float | None = None
    output_tokens: float | None = None
    range_ratio: float | None = None
    concurrency: float | None = None
    rate: float | None = None
    burstiness: float = 1.0
    in_flight: float | None = None
    together: bool = False
    slots: float | None = None
    request_iterations: float | None = None
    budget: float | None = None
    log: Requests | None = None
    ttft: Latency = Latency()
    tpot: Latency = Latency()
    itl: Latency = Latency()
    end_to_end: Latency = Latency()
    throughput: float | None = None
    completed: int | None = None
    failed: int = 0
    speculative: str = ""
    unmodelled: str = ""

    def mean_of(self, tokens: float | None) -> float | None:
        """The mean of lengths of which the file says the longest, where it does.

        Arguments:
            tokens: `input_tokens` or `output_tokens`.
        """
        if tokens is None or self.range_ratio is None:
            return tokens
        return tokens * (1 + self.range_ratio) / 2

    @property
    def batch(self) -> float | None:
        """Requests in flight: at most, or on average where they arrive at a rate; None: unknown.

        The average is measured, or by Little's law the requests/s times the s of one.
        """
        if self.rate is None and self.concurrency is not None:
            return self.concurrency
        if self.in_flight is not None:
            return max(1.0, self.in_flight)
        seconds = self.end_to_end.typical
        if seconds is None and self.ttft.typical is not None and self.tpot.typical is not None:
            seconds = self.ttft.typical + self.tpot.typical * ((self.output_tokens or 1.0) - 1)
        if seconds is None or self.throughput is None or not self.output_tokens:
            return self.concurrency
        return max(1.0, self.throughput / self.output_tokens * seconds)
