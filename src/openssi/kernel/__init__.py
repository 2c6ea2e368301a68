"""A kernel's modules: which there are, what each needs, and which one drives a device."""
