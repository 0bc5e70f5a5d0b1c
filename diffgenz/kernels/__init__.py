"""Kernel models: how long a kernel takes, as a smooth function of its shape.

    form = Gemm()                                    parameters at their priors, or as fitted
    form.seconds(GemmShape(m, n, k, moved), chip)    seconds of one execution

A form has a few parameters, which measurements set. Every parameter is a pure number: an
efficiency, a size in elements, or a latency in units of the hardware's own. A form is therefore
homogeneous (all rates twice and all latencies half give half the time), and what one accelerator
teaches can be asked of another. A new kernel is a shape in `shapes`, a form in `forms`, a row in
`families`, and a reader of its measurements in `calibrating.readers`.
"""
