# Checked by eye and by `docker compose config`; not built by the test suite.
# Debian, not Alpine: the embedded store has no wheels for musl.
FROM python:3.11-slim-bookworm
WORKDIR /opt/aggregator
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY aggregator aggregator
COPY dashboards dashboards
COPY alert_rules alert_rules
RUN pip install --no-cache-dir -c constraints.txt '.[server]' \
    && useradd --system --uid 65532 --home-dir /var/lib/aggregator --create-home aggregator
USER 65532
WORKDIR /var/lib/aggregator
ENV PYTHONMALLOC=malloc MALLOC_ARENA_MAX=2
EXPOSE 9494
STOPSIGNAL SIGTERM
ENTRYPOINT ["aggregator"]
CMD ["serve", "-c", "/etc/aggregator/fleet.yaml"]
