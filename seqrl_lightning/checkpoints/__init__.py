"""The format of a checkpoint: how it is written, read, verified and found."""
