"""What processes listen at."""

import ipaddress
from contextlib import suppress

import psutil

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def listening(pid: int | None = None) -> set[tuple[Address, int]]:
    """Address and port of every TCP server of a process (this one by default) and of all that it started."""
    servers = set()
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended since
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    servers.add((_address(connection.laddr.ip), connection.laddr.port))
    return servers


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
