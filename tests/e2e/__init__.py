"""The whole stack from outside; a package, so that the stack stops after its last test."""
