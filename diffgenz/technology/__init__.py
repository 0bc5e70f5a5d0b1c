"""What an accelerator takes to build: die area, stacks, TDP, yield, unit cost and price.

`chip.py` says what is built, `coefficients.py` what each part of it takes, with a prior and a
source; `area.py`, `power.py` and `cost.py` are the formulas, and `build.py` is all of them.
`fitting.py` fits the coefficients to public chips. All formulas are smooth, and convex in the
logarithms of the chip's numbers: sums and products of powers with positive factors, exponentials
of these, and p-norms.
"""
