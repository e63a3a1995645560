"""Coordinators: who should own which shard. They suggest; the epoch decides."""
