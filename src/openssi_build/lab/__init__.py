"""Virtual machines: what the boot tests and `inv lab` run on."""
