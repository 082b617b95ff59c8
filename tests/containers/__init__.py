"""The Dockerfile and the compose file, built and run by podman with no registry: `make image`, `make compose-test`.

Not collected by pytest: it needs root, bridge networks and some minutes. The base image is made here, from Debian
packages, and everything lies in build/containers, with a storage and networks of its own: what other containers of
this machine do is neither seen nor touched.
"""
