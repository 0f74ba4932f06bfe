"""The version of the package, which files say as well."""

__version__ = "0.1.0"
