"""A real Kubernetes cluster on a machine without Docker.

The profile `control-plane` has no containers: it needs no root rights, starts in seconds and takes thousands of fake
pods. The profile `node` runs real containers on one node and needs root.
"""

from localcluster.cluster import Cluster, Profile, build, load_images, start, status, stop
from localcluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError", "Profile", "build", "load_images", "start", "status", "stop"]
