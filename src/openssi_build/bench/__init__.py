"""`inv bench`: each module measures one part against named peers in the same run and prints the table."""
