"""The operator's image: built of the Dockerfile with Docker where an engine answers, else with buildah, and pushed."""

from operatorimage.engines import BUILDAH, DOCKER, Engine, choose

__all__ = ["BUILDAH", "DOCKER", "Engine", "choose"]
