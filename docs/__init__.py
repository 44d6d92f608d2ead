"""The documentation: pages, and in `scripts` the programs that write parts of them."""
