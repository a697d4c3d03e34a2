"""Environments that graphray brings along."""

SHIPPED: dict[str, type] = {}
