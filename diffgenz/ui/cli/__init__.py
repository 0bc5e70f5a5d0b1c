"""The command line, one command a file. JAX is imported only by the commands that compute."""
