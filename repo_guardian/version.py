"""The one place that says which version this is; read by the build and by `repo-guardian version`."""

__version__ = "0.1.0"
