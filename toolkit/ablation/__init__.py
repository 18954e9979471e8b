"""Controlled studies of architectures: plan, cells, costs, search, effects and report."""
