"""What runs have shown: pure functions of their tables, and the figures and reports made of them."""
