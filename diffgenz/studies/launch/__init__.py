"""A scenario as the commands that start it on a serving engine: `launch_command`."""
