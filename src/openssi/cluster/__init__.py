"""The cluster: its table of nodes, its settings, and the steps that make, extend and undo it."""
