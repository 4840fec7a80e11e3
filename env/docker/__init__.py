"""Containers and images of an engine: Docker, or Podman behind its API."""
