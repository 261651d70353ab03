# One image for every variant: the same interpreter, the same packages, the same code. What differs is the command.
# The load generator's is the same with the harness inside.
FROM python:3.13-slim-trixie AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# uWSGI and mod_wsgi come as source.
RUN apt-get update && apt-get install -y --no-install-recommends apache2-dev gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /srv
COPY requirements.lock requirements-all.lock ./
RUN python -m venv /venv && /venv/bin/pip install --require-hashes --requirement requirements.lock
# Built by the setuptools of the lock, not by the newest.
RUN /venv/bin/pip install --require-hashes --no-build-isolation --use-pep517 --requirement requirements-all.lock


FROM python:3.13-slim-trixie AS server

RUN apt-get update && apt-get install -y --no-install-recommends apache2 nginx && rm -rf /var/lib/apt/lists/*
COPY --from=build /venv /venv

# A read-only root could not keep byte code.
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

WORKDIR /srv
COPY apps apps
RUN python -m compileall -q apps && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gatebench

USER 10001:10001
CMD ["python", "-m", "apps", "--help"]


FROM server AS load

USER root
COPY harness harness
COPY scenarios scenarios
# The variants, by their names in the project's own network, are all that it may load.
RUN mkdir -p config/gatebench && python -c "from apps.variants import VARIANTS; \
    print('allow =', [f'{name}:8000' for name in VARIANTS])" > config/gatebench/config.toml
ENV XDG_CONFIG_HOME=/srv/config

USER 10001:10001
CMD ["python", "-m", "harness", "--help"]
