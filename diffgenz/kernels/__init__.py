"""Kernel models: how long a kernel takes as a smooth function of its shape, with a few parameters that measurements set.

    form = Gemm()                      a family's parameters, at their priors or as fitted
    timer = form.on(chip)              bound to an accelerator: what does not depend on the shape is computed once
    timer(GemmShape(m, n, k, moved))   seconds

Every parameter is a pure number: efficiencies, sizes in elements, and latencies in units of the accelerator's launch latency. A form is therefore
homogeneous (all rates twice and latencies half: half the time), and what one accelerator teaches can be asked of another. A new family is one
file with a shape, a form and a timer; it is fitted, reported and used without further code.
"""
