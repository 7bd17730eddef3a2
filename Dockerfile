# hatchling, which builds the wheel, is locked with the development tools; they stay behind in this stage.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY requirements-dev.txt ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements-dev.txt
COPY . .
RUN hatchling build --target wheel --directory /wheels

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home --home-dir /var/lib/leadstream leadstream \
    && install --directory --owner 10001 --mode 700 /var/spool/leadstream
COPY requirements.txt /tmp/
RUN pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.txt
COPY --from=wheel /wheels/ /tmp/wheels/
RUN pip install --no-cache-dir --no-deps --no-index /tmp/wheels/*.whl
ENV PYTHONUNBUFFERED=1
USER 10001
# Relative paths of the settings, such as .leadstream/warehouse, are below this.
WORKDIR /var/lib/leadstream
ENTRYPOINT ["leadstream"]
