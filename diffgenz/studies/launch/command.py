"""The command of one engine, before it is text: its flags, and what differs from node to node."""

from typing import NamedTuple

HEAD, RANK = "$HEAD_ADDRESS", "$NODE_RANK"
"""What stands for the address of the first node and for the number of another, from 1."""


class Command(NamedTuple):
    """What starts a server.

    Arguments:
        start: the words before the flags, the model included.
        flags: those that all nodes have.
        head: further flags of the first node.
        others: further flags of each other node.
        nodes: how many there are.
        comments: what to know, before it.
    """

    start: str
    flags: tuple[str, ...]
    head: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    nodes: int = 1
    comments: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The shell commands, after lines of comments: one, or one for each role of a node."""
        comments = [f"# {each}" for each in self.comments]
        if self.nodes == 1:
            return "\n".join([*comments, _words(self.start, self.flags)])
        last = self.nodes - 1
        if last == 1:
            where, own = "node 1", tuple(each.replace(RANK, "1") for each in self.others)
        else:
            where, own = f"each of nodes 1 to {last}, as NODE_RANK", self.others
        parts = [
            *comments,
            f"# on node 0; HEAD_ADDRESS is its address on all {self.nodes} nodes",
            _words(self.start, (*self.flags, *self.head)),
            f"# on {where}",
            _words(self.start, (*self.flags, *own)),
        ]
        return "\n".join(parts)


def _words(start: str, flags: tuple[str, ...]) -> str:
    return " \\\n    ".join([start, *flags])


def copies_of(count: int, nodes: int) -> str:
    """What to know of a server that is run several times.

    Arguments:
        count: how many times.
        nodes: that each is on.
    """
    own = "" if nodes == 1 else f", each on {nodes} nodes of its own,"
    return f"run {count} of these{own} behind a load balancer"
