"""Bringing the built repository to where clients fetch it: a directory, a machine with ssh, or object storage.

At every moment the target is a repository that apt accepts: what is added comes first, InRelease last, and nothing that
a Release still in a client's hands names is deleted.
"""

from openssi_build.publish.publisher import Result, publish
from openssi_build.publish.pull import pull
from openssi_build.publish.targets import open_target

__all__ = ["Result", "open_target", "publish", "pull"]
