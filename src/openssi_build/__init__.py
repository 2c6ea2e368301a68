"""The toolchain: what `inv` runs on a build machine; never installed on a node."""
