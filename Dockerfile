# One image for every variant: the same interpreter, the same packages, the same code. What differs is the command.
FROM python:3.13-slim-trixie

# A read-only root could keep neither byte code nor pip's cache.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /srv
COPY requirements.lock .
RUN pip install --require-hashes --requirement requirements.lock
COPY apps apps
RUN python -m compileall -q apps && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gatebench

USER 10001:10001
CMD ["python", "-m", "apps", "--help"]
