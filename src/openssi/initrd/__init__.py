"""The initrd of netbooted nodes: what is in it, how it is put together, and reading anybody's."""
