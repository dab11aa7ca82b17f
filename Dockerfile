# The proxy alone; docker-compose.yml puts a Postgres beside it. Packages come from the lock file with their hashes.
FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /app \
    && /app/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md alembic.ini ./
COPY api api
COPY ledger ledger
COPY llm llm
COPY migrations migrations
# The package itself has no hash to check; everything that it needs is installed already.
RUN /app/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.11-slim
# A number, so that an orchestrator that demands a user other than root can check it; named, because initdb needs a name.
RUN useradd --system --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin llm
COPY --from=build /app /app
COPY examples/config.yaml /etc/llm/config.yaml
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LLM_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 4000
# The grace of general_settings.shutdown_grace_s (25 s) needs `docker stop -t 30` or stop_grace_period.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4000/health/readiness', timeout=2)"]
ENTRYPOINT ["llm"]
CMD ["--config", "/etc/llm/config.yaml", "--host", "0.0.0.0", "--port", "4000"]
