"""Builds and pushes the operator's container image: with Docker if a Docker engine answers, else with buildah."""

from operatorimage.engines import BUILDAH, DOCKER, Engine, choose

__all__ = ["BUILDAH", "DOCKER", "Engine", "choose"]
