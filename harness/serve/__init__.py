"""Serving: a model folder as something that replies, by vLLM or by transformers in this process; see `server.py`.

Importing it loads no torch: `start_server` does, and the modules `engine`, `local_model`, `http` and `probe`.
"""

from srft.harness.serve.server import ServeConfig, Server, start_server

__all__ = ["ServeConfig", "Server", "start_server"]
