"""The shell around the parts: CLI, configuration, supervision, control sockets, logging, metrics, the demo."""

__version__ = "0.1.0"
