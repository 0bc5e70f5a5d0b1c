"""`optimize`: the platform and batch that serve a question best, with what each limit costs."""
