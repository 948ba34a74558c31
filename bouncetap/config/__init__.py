"""Configuration: one TOML file, checked whole, every option declared once.

`options.py` declares every option (name, type, default, documentation); `values.py` parses single values;
`load.py` reads file and environment and reports all errors at once; `render.py` writes the reference page, the
full sample and `config show`; `for_proxy.py` and `for_store.py` turn a checked `Config` into the parts' own
frozen settings (two modules, because the proxy's process must not import the store).
"""

from bouncetap.config.load import Config, ConfigError, load

__all__ = ["Config", "ConfigError", "load"]
