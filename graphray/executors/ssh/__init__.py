"""Machines joined over SSH: which they are."""

from __future__ import annotations

from graphray.executors.ssh.hosts import Host, parse_hosts

__all__ = ["Host", "parse_hosts"]
