"""Stateful Function-as-a-Service at the edge: a node daemon, its cores and its function SDK."""
