# promgate's image: Python, the pinned requirements, proxy/, and nothing to build or install with.
# Only /var/lib/promgate is written, so it runs with a read-only root file system. How to use it: docs/containers.md

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/promgate
COPY requirements/runtime.txt /tmp/
RUN /opt/promgate/bin/python -m pip install --require-hashes --only-binary=:all: -r /tmp/runtime.txt \
    && /opt/promgate/bin/python -m pip uninstall --yes pip setuptools
COPY proxy/ /opt/promgate/lib/python3.11/site-packages/proxy/
COPY deploy/container/healthy.py /opt/promgate/lib/
COPY deploy/container/promgate /opt/promgate/bin/
# Compiled here, since it cannot be where it runs; checked by content, for times do not survive every copy of an image.
RUN find /opt/promgate -name __pycache__ -prune -exec rm -r {} + \
    && /opt/promgate/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/promgate/lib \
    && chmod -R go-w,a+rX /opt/promgate && chmod 755 /opt/promgate/bin/promgate

FROM python:3.11-slim
LABEL org.opencontainers.image.title="promgate" \
      org.opencontainers.image.description="Authenticating reverse proxy for Prometheus and Alertmanager" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that Kubernetes' runAsNonRoot can judge it; the volume gets its owner from the directory here.
RUN groupadd --system --gid 10001 promgate \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin promgate \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/promgate && install -d /etc/promgate
COPY --from=build /opt/promgate /opt/promgate
ENV PATH=/opt/promgate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PROMGATE_CONFIG_FILE=/etc/promgate/promgate.yml
USER 10001:10001
WORKDIR /
VOLUME /var/lib/promgate
EXPOSE 9443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/opt/promgate/bin/python", "-IS", "/opt/promgate/lib/healthy.py"]
ENTRYPOINT ["promgate"]
CMD ["serve", "--config.file=/etc/promgate/promgate.yml"]
