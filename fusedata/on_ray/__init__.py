"""Sampling, verifying and scoring as Ray Data pipelines, on a cluster or on this machine."""

from fusedata.on_ray.stages import OnRay
from fusedata.on_ray.workers import Seams

__all__ = ["OnRay", "Seams"]
