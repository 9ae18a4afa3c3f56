"""A TCP proxy in front of a server, which cuts clients off without root."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

PROXY_HOST: Final = "127.0.0.2"
"""Clients reach each server here, at the server's own port. Linux has all of 127.0.0.0/8."""

_CHUNK: Final = 262_144


class _Link:
    """A connection of a client to a server."""

    def __init__(self, client_port: int) -> None:
        self.client_port = client_port
        self.is_open = asyncio.Event()


class Proxy:
    """Passes all bytes on, except those of clients that are cut off: theirs wait.

    Waiting is what a network does that loses packets: nobody is told, and what was sent arrives
    when it works again, unless a client has given up.

    Args:
        port: Of the server, on 127.0.0.1, and of the proxy.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._links: set[_Link] = set()
        self._ports_cut_off: Callable[[], Collection[int]] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"proxy {port}", daemon=True)

    def start(self) -> None:
        """Listen in the background.

        Raises:
            OSError: The address is not there or in use.
        """
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, PROXY_HOST, self.port, backlog=128)
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the proxy and all connections."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def cut(self, ports: Callable[[], Collection[int]]) -> None:
        """Cut clients off from the server.

        Args:
            ports: Returns the local ports of the clients' connections; asked again when one connects.
        """
        self._ports_cut_off = ports
        self._loop.call_soon_threadsafe(self._hold, ports())

    def mend(self) -> None:
        """Pass everything on again, what was held included."""
        self._ports_cut_off = None
        self._loop.call_soon_threadsafe(self._release)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def _hold(self, ports: Collection[int]) -> None:
        for link in self._links:
            if link.client_port in ports:
                link.is_open.clear()

    def _release(self) -> None:
        for link in self._links:
            link.is_open.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer.get_extra_info("peername")[1])
        self._links.add(link)
        try:
            find = self._ports_cut_off
            if find is None or link.client_port not in await asyncio.to_thread(find):
                link.is_open.set()
            await link.is_open.wait()
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return
            try:
                pumps = [
                    asyncio.ensure_future(self._pump(reader, server_writer, link)),
                    asyncio.ensure_future(self._pump(server_reader, writer, link)),
                ]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                server_writer.close()
        finally:
            self._links.discard(link)
            writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await link.is_open.wait()
                writer.write(chunk)
                await writer.drain()
