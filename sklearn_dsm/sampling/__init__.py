"""Samples and normalising constants of densities that are known up to a constant."""

__all__: list[str] = []
