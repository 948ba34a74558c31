"""The demo behind `make run`: the whole tap on loopback, a stand-in handler, sample traffic, and where to look.

`run_demo` sets a state directory of its own up (and resets it at each start), starts the stand-in handler in this
process and `bouncetap run` as a child, sends the project's fixtures by SMTP, shows what was forwarded and how it
was classified, then keeps running until Ctrl-C.
"""

from bouncetap.demo.show import run_demo

__all__ = ["run_demo"]
