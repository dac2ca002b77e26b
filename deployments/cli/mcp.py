"""The command that desktop assistants start: the Model Context Protocol over stdin and stdout."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from deployments.cli.options import PipelineName

if TYPE_CHECKING:
    from deployments.cli.remote import Service
    from deployments.environment import Environment


def mcp(pipeline: PipelineName = None) -> None:
    """Serve the Model Context Protocol on stdin and stdout: the running service answers, else one in this process."""
    import anyio

    from deployments import environment
    from deployments.cli.mcp_bridge import Bridge
    from deployments.cli.session import enter
    from deployments.endpoints import block_name

    env = environment.load()
    enter(env)
    named = pipeline or block_name(env.collection_name)
    with ExitStack() as at_the_end:
        services = Services(env, named, at_the_end)
        services.check()
        anyio.run(Bridge(services.find, named).serve)


class Services:
    """Finds the service that answers: the home's, or one in this process, which ends with ``at_the_end``."""

    def __init__(self, env: Environment, default: str, at_the_end: ExitStack) -> None:
        self._env, self._default, self._at_the_end = env, default, at_the_end
        self._lock = threading.Lock()
        self._own: Service | None = None

    def check(self) -> None:
        """Raise ``MisuseError`` or ``PartError`` when neither a service nor its parts run: it is told at once."""
        from deployments.cli.remote import running_service
        from deployments.local import stack

        if running_service(self._env) is None:
            stack.endpoints(self._env)

    def find(self) -> Service:
        """Return the running service; without one, start one in this process."""
        from deployments.cli.remote import running_service

        with self._lock:
            return running_service(self._env) or self._own_service()

    def _own_service(self) -> Service:
        if self._own is None:
            import secrets

            from deployments import state
            from deployments.cli.remote import Service
            from deployments.local import stack
            from deployments.server.background import background

            stack.endpoints(self._env)
            key = state.load(self._env.home).service_key or secrets.token_urlsafe(32)
            serving = background(self._default, key, self._env.public_url or "")
            self._own = Service(self._at_the_end.enter_context(serving), key)
        return self._own
