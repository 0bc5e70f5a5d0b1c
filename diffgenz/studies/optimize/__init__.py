"""`optimize`: the platform and batch that serve a question best, with what each limit costs."""

from diffgenz.studies.optimize import distributions as distributions
