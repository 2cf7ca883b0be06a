"""Builds and pushes the operator's image: with Docker if an engine answers, else with buildah."""

from operatorimage.engines import BUILDAH, DOCKER, Engine, choose

__all__ = ["BUILDAH", "DOCKER", "Engine", "choose"]
