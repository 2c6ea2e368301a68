"""The signed apt repository: an index that costs what changed, published atomically, kept in snapshots.

The state is the published tree. What lies in the cache can be thrown away and is made again from it.
"""

from openssi_build.repository.images import Images
from openssi_build.repository.publish import publish, rollback, start_anew
from openssi_build.repository.release import Signer
from openssi_build.repository.snapshots import Change, Changes, Snapshot, boot_images, changes, every, newest

__all__ = [
    "Change", "Changes", "Images", "Signer", "Snapshot", "boot_images", "changes", "every", "newest", "publish", "rollback",
    "start_anew",
]  # fmt: skip
