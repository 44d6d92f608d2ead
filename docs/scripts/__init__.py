"""Programs that write parts of the documentation, and the hooks of its site."""
