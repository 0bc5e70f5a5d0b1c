"""From measurements to parameters of kernel models, with standard errors and held-out errors.

readers     a file -> `Samples`
cleaning    without duplicates, host-bound and impossible rows, which are counted
samples     a fifth is held out, by a hash of the shape
fitting     robust least squares with priors, from many starts -> `KernelFit`
fits        (in `kernels`) the TOML file that holds them
"""
