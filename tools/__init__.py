"""Scripts for maintainers: not imported by the product, not in the wheel."""
